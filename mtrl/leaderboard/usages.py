"""How each command of the leaderboard is used; apart from the commands, which import heavy packages."""

from __future__ import annotations

from mtrl.sweeps.spec import KEYS

_KEYS = "\n".join(f"  {key:<16} {text}" for key, text in KEYS.items())
_RUN = f"""usage: python -m mtrl.leaderboard run SPEC.yaml [--jobs=N] [--ray=ADDRESS] [--dry-run]

Trains every suite with every method and seed of SPEC. Result files go to the results folder, one per run, as each is
over; run folders lie beneath it in .runs/. Finished runs are skipped, broken ones continue from their last checkpoint,
so the same command continues a sweep that was stopped or killed. A run that fails is tried once more.

With together the seeds of a suite and method train in one process, each with files of its own. That is for a GPU, where
their updates become one; their memory adds up. On a CPU it is no faster than processes of their own (--jobs), and every
result is the same to the bit. Finished seeds are skipped. If a group fails, each of its seeds goes on alone.

  --jobs=N       processes at a time, which share the CPUs; by default 1. With --ray: CPUs of the cluster over --cpus
  --ray=ADDRESS  run on a Ray cluster (host:port, or auto) that shares the results folder; needs the extra ray
  --cpus=N       with --ray: CPUs of each process, by default 1
  --dry-run      print the plan and an estimate of hours, and train nothing

SPEC holds
{_KEYS}"""
_BUILD = """usage: python -m mtrl.leaderboard build RESULTS [--out=DIR] [--outside=FILE] [--docs=URL]

Reads every result file below RESULTS and writes into DIR: index.html (one self-contained page), leaderboard.md, csv/,
plots/ (SVG) and rliable/ (matrices of runs and tasks). Equal results give equal bytes.

  --out=DIR       by default leaderboard
  --outside=FILE  CSV of numbers published elsewhere, as reference lines; by default those that ship with mtrl; none
                  leaves them out
  --docs=URL      where the documentation is, as seen from the page: each row then links to its method there

Exit status 1 if files had to be left out (each is named, on stderr and on the page), 2 if nothing could be built."""
_VERIFY = """usage: python -m mtrl.leaderboard verify ROW ... [--KEY=VALUE ...]

Evaluates the final checkpoint of every run of a row under the official protocol, and compares the mean with the row's
interval. Exit status 1 if the mean lies outside.

ROW is SUITE/LABEL, with the label of the leaderboard, or SUITE/BUDGET/LABEL where several budgets have that label. A
method's name is enough where the method has one row. ROW can also be the row's folder, run folders or result files.

  --results=DIR  where ROW is looked up, by default results
  --runs=DIR     where run folders lie, for result files that do not lie in or beside them; by default runs
  --seed=N       draws other goals or levels; by default each run's own, which repeats its evaluation
  --device=NAME  auto, cpu, cuda or cuda:N"""
_CHECK = """usage: python -m mtrl.leaderboard check FILE-OR-FOLDER ... | --schema

Validates result files against the published JSON schema and the rules that a schema cannot express. Prints a line per
problem: the file, the place in it, what is wrong. Exit status 2 if there is any.

  --schema  print the path of the JSON schema"""
USAGES = {"run": _RUN, "build": _BUILD, "verify": _VERIFY, "check": _CHECK}
"""The usage of each command."""
