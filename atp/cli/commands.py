"""The commands: their arguments, and how the help texts describe them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command, as `atp` and `atp COMMAND --help` describe it."""

    summary: str  # a line
    forms: tuple[str, ...]  # that docopt reads: its arguments after its name
    text: str
    examples: tuple[str, ...]


SAES = "[options] [--sae=SPEC]..."

COMMANDS = {
    "run": Command(
        "score the features of every pair, and write the result file",
        (f"[INPUT] {SAES}",),
        """Score the features of every pair of INPUT (JSON or JSON Lines) by attribution patching,
        and write the result file. INPUT defaults to the newest *.json or *.jsonl under
        /data/input. You can stop it at any time; the same command resumes.""",
        (
            "atp run feedback.json",
            "atp run feedback.json --hook-layer=9,20,31 --sae-width=131k",
            "atp run feedback.json --model=./my-model --sae=./my-sae --chat-template",
        ),
    ),
    "check": Command(
        "look at everything that a run needs, without starting it",
        (f"[INPUT] {SAES}",),
        """Look at INPUT, names, caches, disk and device before a run. Report every problem, the
        counts that the run would have, and about how much memory, disk and time it needs. Takes
        the options of the run. Computes nothing on a GPU.""",
        ("atp check feedback.json", "atp check feedback.json --config=study.toml --json"),
    ),
    "fetch": Command(
        "download the model and the SAEs of a run, once",
        (SAES,),
        """Download the model and the SAEs of a run into the hub cache, compare their hashes, and
        record them. Takes the options of the run, but for those about workers, vectors and the
        report. The run then needs no network, and keeps using these files until the next
        fetch. You can stop it at any time; the same command resumes.""",
        ("atp fetch", "atp fetch --hook-layer=9,20,31 --sae-width=131k"),
    ),
    "saes": Command(
        "list the SAEs and transcoders that SAELens has for a model",
        ("[MODEL] [options]",),
        """List the dictionaries (SAEs, transcoders, CLT layers) that the installed SAELens has for
        MODEL, by site and release: layers, widths, L0, sizes in float32, which of them are in the
        hub cache, and which atp does not score. Without MODEL: how many each model has. Asks no
        hub. --json prints everything of each one, its name for --sae included.""",
        ("atp saes", "atp saes google/gemma-3-12b-it", "atp saes gpt2 --json"),
    ),
    "rescore": Command(
        "score other SAEs on the vectors that a run kept, without the model",
        (f"VECTORS [INPUT] {SAES}",),
        """Score the pairs of an earlier run with other SAEs, on a CPU and without the model: from
        the vectors that atp run --save-vectors kept. VECTORS is their folder, or the folder of
        results in which it is. The results are those of a run of attribution patching with these
        SAEs, and go beside VECTORS, if --out names no other folder. An SAE must read and write
        where one of the run did. INPUT is by default the file that the run read. You can stop it
        at any time; the same command resumes.""",
        (
            "atp rescore results/feedback --sae=./my-sae",
            "atp rescore results/feedback --hook-layer=20 --sae-width=131k",
        ),
    ),
    "features": Command(
        "put the scores of all pairs together, and select features",
        ("[RESULT]... [options]",),
        """Put the scored pairs of one or more results of a model together, select features of each
        SAE, and write a table as CSV and Parquet, and the selection as JSON. RESULT is a result
        file, or a folder, of which the last run is taken; by default, the folder that atp run
        writes to. The files go to the folder of the first RESULT, if --out names no other.""",
        ("atp features", "atp features results/feedback --fdr=0.05 --top-features=20"),
    ),
    "intervene": Command(
        "remove selected features from the model, and measure the change",
        (f"[INPUT] {SAES}", "--compare BEFORE AFTER [options]"),
        """Remove the features that atp features selected from the model, and measure how that
        changes the metric of each pair of INPUT, in comparison with random features and with
        those of the most negative scores, and how it changes the base responses. Write a report
        as text and as JSON. Model, SAEs, INPUT and the way pairs are contrasted are by default
        those of the features file. With --compare: compare the flags of two labelled files, of
        responses before and after, and report likewise.""",
        (
            "atp intervene",
            "atp intervene held_out.json --features=atp_features_gemma.json --regenerate",
            "atp intervene --compare labelled_before.json labelled_after.json",
        ),
    ),
    "report": Command(
        "show results as one page, with pictures, that needs no network",
        ("[RESULT]... [options]",),
        """Write one HTML page that shows the answer of a study: the strongest features with
        intervals, each feature, each pair with its texts, and what an intervention changed. It
        opens from a disk or a mail, without a network. RESULT is a result of atp run, a report of
        atp intervene, or a folder, of which the last run is taken, with the newest report of an
        intervention that is later; by default, the folder that atp run writes to. Several results
        are shown side by side. Features are selected as atp features does. The page goes to the
        folder of the first RESULT; --out names another folder, or a file that ends in .html.""",
        (
            "atp report",
            "atp report results/feedback --labels=labels.json --figures=figures",
            "atp report layer9.json layer20.json --out=layers.html",
        ),
    ),
    "merge": Command(
        "put the results of all shards of a run together",
        ("RESULT... [options]",),
        """Merge the results of all shards of a run into the result of the whole run. RESULT is a
        shard's result file, or a folder that has such files in it or in its subfolders.""",
        ("atp merge results/feedback",),
    ),
    "bench": Command(
        "time a run beside the procedure that it replaces",
        (f"[INPUT] {SAES}",),
        """Time a run on INPUT, in turn with the notebook's procedure and with a bare forward pass
        over the same tokens, and print a table. Takes several minutes. Scores are by the
        defaults: it refuses other values of --method, --baseline, --position and --metric,
        --exact and --prompt-activations.""",
        ("atp bench feedback.json --limit=20 --rounds=5",),
    ),
    "config": Command(
        "print the settings that a command would have",
        ("COMMAND [ARGUMENT]...",),
        """Print the settings that COMMAND with these arguments would have, as TOML. --config=FILE
        of any command reads them. The command line wins over the environment, the environment
        over the file, and the file over the defaults. FILE may also be a file that atp wrote: a
        result, a features file or a report; its settings are repeated.""",
        (
            "atp config run feedback.json --top-k=100 > study.toml",
            "atp run --config=study.toml",
            "atp run --config=results/feedback/atp_results_gemma.json --out=repeated",
        ),
    ),
    "completion": Command(
        "print the completion of commands and options for a shell",
        ("SHELL",),
        """Print a script for SHELL: bash, zsh or fish. It completes commands, options, the values
        that have names, and files.""",
        (
            "source <(atp completion bash)                # in ~/.bashrc; zsh: in ~/.zshrc",
            "atp completion fish > ~/.config/fish/completions/atp.fish",
        ),
    ),
}
"""By name, in the order of `atp --help`."""
