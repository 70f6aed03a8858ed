"""A study: all that one configuration asks for, worked out once, for the Snakefile and for the programs.

Runs, checkpoints and data lie in the store, shared by all studies and found by their keys; what a person opens lies in
`results/{study}/`. Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from essential_sparsity import codefiles, files, patterns
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.study import (
    deciding,
    grid,
    iterations,
    kinds,
    records,
    references,
    series,
)
from essential_sparsity.study.grid import STORE


@dataclass(frozen=True)
class Study:
    """What a configuration asks for. Rows of tables by id, series expanded, revisions replaced by commits.

    `calibrations`: by type of model, the row that its patterns are calibrated on. `claims`: what the results are held against. `jobs`: the evaluations. `members`: the
    checkpoints of the series that are studied. `expected`: reference values by (model, task). `given`: the configuration as `read` takes it. `looked`: whether `jobs` are cut as the store's runs are.
    """

    name: str
    given: dict[str, Any]
    models: dict[str, dict]
    tasks: dict[str, dict]
    packages: dict[str, list[dict]]
    pretrainings: dict[str, dict]
    datasets: dict[str, dict]
    calibrations: dict[str, dict]
    claims: list[dict]
    jobs: list[grid.Job]
    members: list[dict]
    mask_levels: list[str]
    expected: references.Expected
    looked: bool

    @property
    def folder(self) -> str:
        """What a person opens."""
        return grid.folder(self.name)

    @property
    def share(self) -> float:
        """Share of the weights that an iteration of a lottery ticket prunes."""
        return self.given["lottery"]["share"]

    @property
    def skipping(self) -> bool:
        """Whether tables are made of what is there (`missing_runs: skip`): nothing in the store is computed then."""
        return self.given.get("missing_runs") == "skip"

    @cached_property
    def curves(self) -> list[tuple[str, str]]:
        """(model, task) of the grid, sorted."""
        return list(self.patterns)

    @cached_property
    def patterns(self) -> dict[tuple[str, str], list[str]]:
        """(model, task) of the grid -> its patterns, sorted."""
        found: dict[tuple[str, str], set[str]] = {}
        for job in self.jobs:
            found.setdefault((job.model, job.task), set()).add(job.pattern)
        return {curve: sorted(names) for curve, names in sorted(found.items())}

    @cached_property
    def used_models(self) -> list[str]:
        """Models of the grid, sorted."""
        return sorted({job.model for job in self.jobs})

    @cached_property
    def named_models(self) -> list[str]:
        """Models of the grid and of the series that are studied, sorted."""
        return sorted({*self.used_models, *(member["model"] for member in self.members)})

    @cached_property
    def used_datasets(self) -> list[str]:
        """Data sets of the grid's tasks, calibrations, and pre-trainings that are made here, sorted."""
        calibrations = {self.calibration(*curve) for curve in {(job.model, job.pattern) for job in self.jobs}}
        return sorted(
            {self.tasks[job.task]["dataset"] for job in self.jobs}
            | {row["dataset"] for row in self.calibrations.values() if row["calibration"] in calibrations}
            | {self.pretrainings[name]["dataset"] for name in self.pretrained}
        )

    def calibration(self, model: str, pattern: str) -> str | None:
        """The row that a model is calibrated on under a pattern; None for patterns without calibration."""
        if patterns.find(pattern).needs != "calibration":
            return None
        return self.calibrations[self.models[model]["type"]]["calibration"]

    def calibration_data(self, model: str, pattern: str) -> str | None:
        """The manifest of the data set of `calibration`."""
        if self.calibration(model, pattern) is None:
            return None
        return f"{STORE}/datasets/{self.calibrations[self.models[model]['type']]['dataset']}/manifest.json"

    @cached_property
    def pretrained(self) -> list[str]:
        """The pre-trainings that are made here, sorted."""
        return sorted(series.made_here(self.models, self.named_models))

    @cached_property
    def tickets(self) -> list[iterations.Iteration]:
        """Every iteration of lottery tickets that the grid needs, sorted."""
        return iterations.tickets(self.jobs, self.share)

    @cached_property
    def referred(self) -> list[tuple[str, str]]:
        """(model, task) of the grid with reference values, sorted."""
        return [curve for curve in self.curves if curve in self.expected]

    @cached_property
    def chained(self) -> list[tuple[str, str]]:
        """(model, task) with lottery tickets, sorted."""
        return sorted({(model, task) for model, task, _, _ in self.tickets})

    @cached_property
    def peered(self) -> list[tuple[str, str]]:
        """(model, task) with a pattern beside one of its peers, sorted."""
        return [
            curve
            for curve, names in self.patterns.items()
            if any({*patterns.find(name).peers} & {*names} for name in names)
        ]

    @cached_property
    def calibrated(self) -> list[tuple[str, str]]:
        """(model, task) with a calibrated pattern beside a peer of magnitude, sorted."""
        return [
            curve for curve, names in self.patterns.items() if any(patterns.magnitude(name, names) for name in names)
        ]

    @cached_property
    def studied(self) -> list[str]:
        """The series that are studied, sorted."""
        return sorted({member["series"] for member in self.members})

    @cached_property
    def trainings(self) -> dict[str, list[dict]]:
        """Training -> its checkpoints that are studied."""
        return series.trainings(self.members)

    @cached_property
    def compared(self) -> list[str]:
        """The trainings whose neighbouring checkpoints' masks are compared: those with two checkpoints or more."""
        return [name for name, members in self.trainings.items() if self.mask_levels and len(members) > 1]

    @property
    def neighboured(self) -> list[str]:
        """The series with such trainings, sorted."""
        return sorted({self.trainings[name][0]["series"] for name in self.compared})

    @property
    def chained_models(self) -> list[str]:
        """Models with lottery tickets, sorted."""
        return sorted({model for model, _ in self.chained})

    def losses(self, training: str) -> str | None:
        """The file of the losses of a training that is made here, None for others."""
        row = self.models[self.trainings[training][0]["model"]]
        return f"{STORE}/pretraining/{row['id']}/losses.parquet" if row["source"] == "pretraining" else None

    def shared_tickets(self, training: str) -> list[iterations.Iteration]:
        """The tickets of a training's checkpoints that two of them or more have."""
        found = iterations.of_several(self.jobs, [member["model"] for member in self.trainings[training]])
        return [ticket for ticket in found if self._wanted(ticket)]

    @cached_property
    def pairs(self) -> list[tuple[str, str, str, iterations.Mask, iterations.Mask]]:
        """The masks of the grid that are compared (`iterations.pairs`)."""
        found = iterations.pairs(self.jobs)
        tickets = ([(mask[1], mask[2]) for mask in pair[3:] if mask[1]] for pair in found)
        return [
            pair
            for pair, own in zip(found, tickets, strict=True)
            if all(self._wanted((pair[0], *ticket, pair[1])) for ticket in own)
        ]

    def compared_tickets(self) -> list[iterations.Iteration]:
        """The tickets of `pairs`, sorted."""
        masks = ((model, mask, level) for model, level, _, *pair in self.pairs for mask in pair if mask[1])
        return sorted({(model, task, seed, level) for model, (_, task, seed), level in masks})

    def _wanted(self, ticket: iterations.Iteration) -> bool:
        """Whether a ticket can be compared: all can be computed, but where nothing is, those that are there."""
        place = f"{STORE}/tickets/{iterations.path(ticket)}"
        needed = (f"{place}.safetensors", f"{place}.sha256", f"{STORE}/checkpoints/{ticket[0]}/manifest.json")
        return not self.skipping or (all(map(os.path.isfile, needed)) and not {*needed} & {*self.of_other})

    def stored(self, jobs: Sequence[grid.Job]) -> list[grid.Job]:
        """Those of the jobs whose runs and items lie in the store; each folder is listed once."""
        runs, items = (grid.stored_in(f"{STORE}/{folder}") for folder in ("runs", "items"))
        return [job for job in jobs if job.token in runs(job.curve) and job.token in items(job.curve)]

    @cached_property
    def _jobs_of(self) -> dict[tuple[str, str], list[grid.Job]]:
        found: dict[tuple[str, str], list[grid.Job]] = {}
        for job in self.jobs:
            found.setdefault((job.model, job.task), []).append(job)
        return found

    def jobs_of(self, model: str, task: str) -> list[grid.Job]:
        """The jobs of one model and task, cut as their runs in the store are, which are looked at if they were not before."""
        jobs = self._jobs_of[model, task]
        if self.looked:
            return jobs
        return grid.cut(jobs, self.tasks[task]["levels_per_job"], grid.stored_in(f"{STORE}/runs"))

    def missing_jobs(self) -> list[grid.Job]:
        """The others."""
        stored = set(self.stored(self.jobs))
        return [job for job in self.jobs if job not in stored]

    @cached_property
    def of_other(self) -> list[str]:
        """What lies in the store and was made of something else than is asked for now (`records.of_other`)."""
        return records.of_other(self)

    def measured(self) -> "Study":
        """The study with those of its series' checkpoints alone that have been measured, as they are asked for now."""
        return replace(self, members=[member for member in self.members if self._measured(member)])

    def _measured(self, member: Mapping[str, Any]) -> bool:
        model = member["model"]
        needed = [f"{STORE}/checkpoints/{model}/manifest.json", *records.measured(model)]
        there = all(map(os.path.isfile, filter(None, [*needed, self.losses(member["training"])])))
        return there and not {*needed} & {*self.of_other}

    def tables(self) -> list[str]:
        """The tables of the study, as their schemas say when they are asked for."""
        asked = {
            "always": True,
            "never": False,  # by itself: parts and files of the store
            "tickets": bool(self.tickets),
            "differences": bool(self.tickets or self.peered),
            "claims": bool(self.claims),
            "masks": bool(self.tickets or self.compared),
            "series": bool(self.members),
            "references": bool(self.referred),
        }
        return [name for name in codefiles.tables() if asked[codefiles.described(name)["asked"]]]

    def deciding(self) -> str:
        """The configuration without the keys that decide no number, with digests of the claims and reference values in its files, as JSON."""
        expected = [[*curve, *(sorted(row.items()) for row in self.expected[curve])] for curve in self.referred]
        return deciding.of_study(self.given, {"claims": self.claims, "references": expected})

    @cached_property
    def measured_only(self) -> dict[str, list[str]]:
        """Pre-training made here -> its checkpoints that are studied but not pruned: one job measures all of them."""
        return series.made_here(self.models, {*self.named_models} - {*self.used_models})

    def made_of(self, jobs: Sequence[grid.Job]) -> list[str]:
        """The manifests and digests of tickets that runs of these jobs must have been made of, sorted."""
        columns = ("checkpoint", "dataset", "calibration", "ticket")
        return sorted({row[column] for row in self.rows(jobs) for column in columns if row[column]})

    def benchmarks(self) -> list[str]:
        """The jobs whose costs are told, as rule/name: where their benchmark files lie, without suffix."""
        together = {model for models in self.measured_only.values() for model in models}
        return [
            *(f"prune_eval/{job.path}" for job in self.jobs),
            *(f"find_ticket/{iterations.path(ticket)}" for ticket in self.tickets),
            *(f"fetch_dataset/{dataset}" for dataset in self.used_datasets),
            *(
                f"{rule}/{model}"
                for rule in ("fetch_model", "measure_spectrum")
                for model in self.named_models
                if model not in together
            ),
            *(f"measure_pretraining/{name}" for name in self.measured_only),
            *(f"pretrain/{name}" for name in self.pretrained),
        ]

    def other_tolerances(self, knees: Iterable[Mapping[str, Any]]) -> list[str]:
        """The tolerances, in words, that headline rows of table `knees` were read with and that are others now."""
        read = {(row["task"], row["metric"], row["epsilon"]) for row in knees if row["headline"]}
        own = {task: row["epsilon"] for task, row in self.tasks.items()}
        other = {task for task, metric, epsilon in read if epsilon != (own.get(task) or METRICS[metric].epsilon)}
        return [f"the tolerance of {task}" for task in sorted(other)]

    def source(self, row: Mapping[str, Any]) -> str:
        """What fetching a table's row depends on, as JSON."""
        return deciding.source(row, self.packages, STORE)

    @cached_property
    def _known(self) -> dict[tuple[str, ...], str]:
        """What `settings` and `code` gave: 10,000 runs ask for the same few."""
        return {}

    def settings(self, task: str, calibration: str | None = None) -> str:
        """`deciding.settings` of a task; `calibration`: the id of the row that it is calibrated on."""
        key = (task, calibration or "")
        if key not in self._known:
            by_name = {row["calibration"]: row for row in self.calibrations.values()}
            row = by_name[calibration] if calibration else None
            self._known[key] = deciding.settings(self.tasks[task], row, self.given["resources"]["threads"])
        return self._known[key]

    def code(self, program: str, task: str, pattern: str = "") -> str:
        """`deciding.code` of a job."""
        key = (program, task, pattern)
        if key not in self._known:
            self._known[key] = deciding.code(program, self.tasks[task]["kind"], pattern)
        return self._known[key]

    def rows(self, jobs: Sequence[grid.Job] | None = None) -> list[dict[str, Any]]:
        """The grid, or some jobs of it, as rows of table `grid`: a run each, with its files and what it must have been made of."""
        found, texts = [], {}
        for job in self.jobs if jobs is None else jobs:
            task = self.tasks[job.task]
            settings = (job.task, self.calibration(job.model, job.pattern))
            if settings not in texts:
                texts[settings] = files.sha256_text(self.settings(*settings))
            for name in job.asked:
                ticket = (job.model, job.task, job.seed, name) if iterations.found_by_training(job.pattern) else None
                found.append(
                    {
                        "model": job.model,
                        "task": job.task,
                        "pattern": job.pattern,
                        "sparsity": float(name),
                        "seed": job.seed,
                        "metrics": ",".join(kinds.tabulated(task)),
                        "named": task["metrics"] is not None,
                        "job": job.path,
                        "run": f"{STORE}/runs/{job.path}.parquet",
                        "items": f"{STORE}/items/{job.path}.parquet",
                        "checkpoint": f"{STORE}/checkpoints/{job.model}/manifest.json",
                        "dataset": f"{STORE}/datasets/{task['dataset']}/manifest.json",
                        "calibration": self.calibration_data(job.model, job.pattern),
                        "ticket": f"{STORE}/tickets/{iterations.path(ticket)}.sha256" if ticket else None,
                        "settings_sha256": texts[settings],
                        "code_sha256": self.code("prune_eval", job.task, job.pattern),
                    }
                )
        return found

    def digest(self, jobs: Sequence[grid.Job] | None = None) -> str:
        """SHA-256 of `rows`: whether the grid's table, or these jobs of it, are what is asked for."""
        return files.sha256_rows(self.rows(jobs))
