"""What a stand-in of the W&B service knows and answers, without the network; see `tests/wandb_service.py`."""

import base64
import itertools
import json
import random
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

import yaml

ENTITY = "tester"


@dataclass
class ServedRun:
    """What the service knows of a run.

    Attributes:
        lines: history lines by their place; a client that sends a place again replaces it, as at W&B.
        starts: how often it was begun anew or after its end.
        state: "pending" (a trial that no agent has begun), "running", "finished", "failed", "preempting" (marked so,
            still alive) or "preempted".
    """

    name: str
    project: str
    entity: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    display_name: str = ""
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    sweep: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    events: dict[int, dict[str, Any]] = field(default_factory=dict)
    log: dict[int, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    exit_code: int | None = None
    starts: int = 0

    @property
    def history(self) -> list[dict[str, Any]]:
        """All rows with W&B's own keys (`_step`, `_runtime`, `_timestamp`)."""
        return [self.lines[place] for place in sorted(self.lines)]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows as they were logged."""
        return [{name: value for name, value in row.items() if not name.startswith("_")} for row in self.history]


@dataclass
class ServedSweep:
    """A sweep; `config` as its YAML was sent."""

    name: str
    project: str
    entity: str
    config: dict[str, Any]
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: str = "RUNNING"
    run_ids: list[str] = field(default_factory=list)
    to_stop: set[str] = field(default_factory=set)


@dataclass
class ServedAgent:
    """A sweep's agent."""

    id: str
    sweep: str
    host: str
    run_states: list[dict[str, bool]] = field(default_factory=list)


class WandbBackend:
    """Runs, sweeps and artifacts, as the clients' requests made them.

    Args:
        url: where this is served, for the addresses that files are to be sent to.
    """

    def __init__(self, url: str):
        self.url = url
        self.runs: dict[str, ServedRun] = {}
        self.sweeps: dict[str, ServedSweep] = {}
        self.agents: dict[str, ServedAgent] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.operations: list[str] = []
        self.unknown: list[str] = []
        self.lock = threading.RLock()

    def graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one GraphQL request; more fields than asked for do no harm."""
        operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"]).group(1)
        variables = request.get("variables") or {}
        with self.lock:
            self.operations.append(operation)
            answer = getattr(self, "_answer_" + re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower(), None)
            if answer:
                return {"data": answer(**variables)}
            if re.search(r"\bproject\s*\(", request["query"]):
                return {"data": {"project": self._project(variables)}}
            self.unknown.append(request["query"])
            return {"errors": [{"message": f"the stand-in doesn't know {operation}"}]}

    def file_stream(self, run: ServedRun, content: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            for name, chunk in (content.get("files") or {}).items():
                numbered = enumerate(chunk["content"], chunk["offset"])
                if name == "wandb-history.jsonl":
                    run.lines.update((place, json.loads(line)) for place, line in numbered)
                elif name == "wandb-events.jsonl":
                    run.events.update((place, json.loads(line)) for place, line in numbered)
                elif name == "wandb-summary.json":
                    run.summary = json.loads(chunk["content"][-1])
                else:
                    run.log.update(numbered)
            if content.get("preempting"):
                run.state = "preempting"
            if content.get("complete"):
                run.exit_code = content.get("exitcode")
                ended = "finished" if run.exit_code == 0 else "failed"
                run.state = "preempted" if run.state == "preempting" and run.exit_code else ended
        return {}

    def _answer_viewer(self, **_: Any) -> dict[str, Any]:
        return {"viewer": _viewer()}

    _answer_get_viewer = _answer_get_default_entity = _answer_viewer

    def _answer_server_features_query(self, **_: Any) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _answer_organization_core_weave_organization_i_d(self, **_: Any) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _answer_run_resume_status(self, name: str, project=None, entity=None) -> dict[str, Any]:
        run = self.runs.get(name)
        bucket = None
        if run:  # a client takes one without "t", such as a trial that no agent has begun, for new
            tail = json.dumps([json.dumps(row) for row in run.history[-1:]])
            events = [json.dumps(run.events[place]) for place in sorted(run.events)]
            bucket = {
                **_node(run),
                "historyTail": tail,
                "eventsTail": json.dumps(events[-1:]),
                "wandbConfig": json.dumps({"t": 1} if run.starts else {}),
            }
        model = {"id": "project", "name": project, "entity": {"id": "entity", "name": entity or ENTITY}}
        return {"model": {**model, "bucket": bucket}}

    def _answer_upsert_bucket(self, **given: Any) -> dict[str, Any]:
        name = given.get("name") or next(run.name for run in self.runs.values() if run.id == given["id"])
        inserted = name not in self.runs
        if inserted:
            self.runs[name] = ServedRun(name, given.get("project") or "uncategorized", given.get("entity") or ENTITY)
        run = self.runs[name]
        texts = {"displayName": "display_name", "groupName": "group", "jobType": "job_type", "notes": "notes"}
        for key, attribute in texts.items() | {("sweep", "sweep"), ("tags", "tags")}:
            if given.get(key):
                setattr(run, attribute, given[key])
        for key, attribute in (("config", "config"), ("summaryMetrics", "summary")):
            if given.get(key):
                setattr(run, attribute, json.loads(given[key]))
        if run.starts == 0 or run.exit_code is not None:  # else it tells more of the same start
            run.state, run.exit_code, run.starts = "running", None, run.starts + 1
        if run.sweep in self.sweeps and name not in self.sweeps[run.sweep].run_ids:
            self.sweeps[run.sweep].run_ids.append(name)
        return {"upsertBucket": {"bucket": _node(run), "inserted": inserted}}

    def _answer_create_run_files(self, files: list[str], run: str, **_: Any) -> dict[str, Any]:
        made = [{"name": name, "uploadUrl": f"{self.url}/runs/{run}/{name}"} for name in files]
        return {"createRunFiles": {"runID": self.runs[run].id, "uploadHeaders": [], "files": made}}

    def _answer_mark_run_files_uploaded(self, **_: Any) -> dict[str, Any]:
        return {"markRunFilesUploaded": {"success": True}}

    def _answer_upsert_sweep(self, id: str | None = None, config=None, **given: Any) -> dict[str, Any]:
        sweep = next((sweep for sweep in self.sweeps.values() if sweep.id == id), None)
        if sweep is None:
            project, entity = given.get("projectName") or "uncategorized", given.get("entityName") or ENTITY
            sweep = ServedSweep(secrets.token_hex(4), project, entity, yaml.safe_load(config))
            self.sweeps[sweep.name] = sweep
        sweep.state = given.get("state") or sweep.state
        return {"upsertSweep": {"sweep": self._sweep_node(sweep), "configValidationWarnings": []}}

    _answer_upsert_sweep_state = _answer_upsert_sweep

    def _answer_create_agent(self, sweep: str, host: str, **_: Any) -> dict[str, Any]:
        agent = ServedAgent(secrets.token_hex(8), sweep, host)
        self.agents[agent.id] = agent
        return {"createAgent": {"agent": {"id": agent.id}}}

    def _answer_heartbeat(self, id: str, runState: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        agent, running = self.agents[id], json.loads(runState)
        agent.run_states.append(running)
        sweep = self.sweeps[agent.sweep]
        commands = [{"type": "stop", "run_id": name} for name in running if name in sweep.to_stop]
        if not running:
            commands = [self._next_trial(sweep)]
        return {"agentHeartbeat": {"agent": {"id": id}, "commands": json.dumps(commands)}}

    def _next_trial(self, sweep: ServedSweep) -> dict[str, Any]:
        number, config = len(sweep.run_ids), sweep.config
        values = _trial_values(config, number)
        if values is None or number >= config.get("run_cap", float("inf")) or sweep.state not in ("RUNNING", "PENDING"):
            return {"type": "exit"}
        name = secrets.token_hex(4)
        self.runs[name] = ServedRun(name, sweep.project, sweep.entity, sweep=sweep.name, state="pending")
        sweep.run_ids.append(name)
        args = {key: {"value": value} for key, value in values.items()}
        return {"type": "run", "run_id": name, "program": config.get("program"), "args": args}

    def _answer_create_artifact(self, input: dict[str, Any]) -> dict[str, Any]:
        made = {**input, "id": f"artifact{len(self.artifacts)}", "state": "PENDING", "files": {}, "manifest": None}
        self.artifacts[made["id"]] = made
        answer = {"id": made["id"], "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": answer}}

    def _answer_create_artifact_manifest(self, artifactID: str, **given: Any) -> dict[str, Any]:  # noqa: N803
        file = {"id": "file", "uploadUrl": None, "uploadHeaders": []}
        if given.get("includeUpload"):
            file["uploadUrl"] = f"{self.url}/artifacts/{artifactID}/manifest"
        return {"createArtifactManifest": {"artifactManifest": {"id": f"manifest-{artifactID}", "file": file}}}

    def _answer_update_artifact_manifest(self, artifactManifestID: str, **given: Any) -> dict[str, Any]:  # noqa: N803
        artifact = artifactManifestID.removeprefix("manifest-")
        answer = self._answer_create_artifact_manifest(artifact, **given)["createArtifactManifest"]
        return {"updateArtifactManifest": answer}

    def _answer_create_artifact_files(self, input: dict[str, Any]) -> dict[str, Any]:
        nodes = [self._artifact_file_node(file) for file in input["artifactFiles"]]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _artifact_file_node(self, file: dict[str, Any]) -> dict[str, Any]:
        upload = f"{self.url}/artifacts/{file['artifactID']}/files/{file['name']}"
        node = {"storagePath": file["name"], "uploadUrl": upload, "uploadHeaders": [], "uploadMultipartUrls": None}
        return {**node, "artifact": {"id": file["artifactID"]}}

    def _answer_commit_artifact(self, artifactID: str) -> dict[str, Any]:  # noqa: N803
        self.artifacts[artifactID]["state"] = "COMMITTED"
        digest = self.artifacts[artifactID].get("digest")
        return {"commitArtifact": {"artifact": {"id": artifactID, "digest": digest}}}

    def _answer_artifact_by_i_d(self, id: str) -> dict[str, Any]:
        made = self.artifacts[id]
        project = {"id": "project", "internalId": "project", "name": made["projectName"], "entity": {"name": ENTITY}}
        missing = dict.fromkeys(("versionIndex", "historyStep", "commitHash", "updatedAt"))
        numbers = {"ttlDurationSeconds": -1, "ttlIsInherited": False, "size": 0, "fileCount": len(made["files"])}
        answer = {
            "id": id,
            "artifactSequence": {"name": made["artifactCollectionName"], "project": project},
            "artifactType": {"name": made["artifactTypeName"]},
            "description": None,
            "metadata": made.get("metadata"),
            "tags": [],
            "state": made["state"],
            "digest": made["digest"],
            "createdAt": "2026-01-01T00:00:00",
        }
        return {"artifact": answer | missing | numbers}

    def _answer_use_artifact(self, input: dict[str, Any]) -> dict[str, Any]:
        return {"useArtifact": {"artifact": {"id": input["artifactID"]}}}

    def receive(self, path: str, content: bytes) -> None:
        """A file's upload, to the address that was handed out for it."""
        with self.lock:
            kind, owner, name = path.strip("/").split("/", 2)
            if kind == "runs":
                self.runs[owner].files[name] = content
            elif name == "manifest":
                self.artifacts[owner]["manifest"] = json.loads(content)
            else:
                self.artifacts[owner]["files"][name.removeprefix("files/")] = content

    def _project(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked.get("run") or asked.get("runName") or asked.get("name") or "")
        sweep = self.sweeps.get(asked.get("sweep") or asked.get("sweepName") or asked.get("name") or "")
        runs = [run for run in self.runs.values() if run.state != "pending"]
        return {
            "id": "project",
            "internalId": "project",
            "name": asked.get("project"),
            "entity": {"id": "entity", "name": ENTITY},
            "readOnly": False,
            "artifact": None,
            "artifactType": None,
            "run": _node(run) if run else None,
            "runCount": len(runs),
            "runs": _page([_node(run) for run in runs]),
            "sweep": self._sweep_node(sweep) if sweep else None,
            "sweeps": _page([self._sweep_node(sweep) for sweep in self.sweeps.values()]),
            "totalSweeps": len(self.sweeps),
        }

    def _sweep_node(self, sweep: ServedSweep) -> dict[str, Any]:
        runs = [_node(self.runs[name]) for name in sweep.run_ids]
        return {
            "__typename": "Sweep",
            "id": sweep.id,
            "name": sweep.name,
            "displayName": sweep.config.get("name"),
            "method": sweep.config.get("method"),
            "state": sweep.state,
            "description": None,
            "config": yaml.safe_dump(sweep.config),
            "createdAt": "2030-01-01T00:00:00",
            "updatedAt": "2030-01-01T00:00:00",
            "heartbeatAt": "2030-01-01T00:00:00",
            "bestLoss": None,
            "runCount": len(runs),
            "runCountExpected": None,
            "controller": None,
            "scheduler": None,
            "project": {"id": "project", "name": sweep.project, "entity": {"id": "entity", "name": sweep.entity}},
            "runs": _page(runs),
        }


def _viewer() -> dict[str, Any]:
    who = {"id": base64.b64encode(b"User:1").decode(), "entity": ENTITY, "username": ENTITY, "name": ENTITY}
    return {**who, "email": "", "flags": "{}", "admin": False, "teams": {"edges": []}, "apiKeys": {"edges": []}}


def _page(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    edges = [{"node": node, "cursor": str(number)} for number, node in enumerate(nodes)]
    return {"edges": edges, "pageInfo": {"__typename": "PageInfo", "hasNextPage": False, "endCursor": None}}


def _node(run: ServedRun) -> dict[str, Any]:
    return {
        "__typename": "Run",
        "id": run.id,
        "internalId": run.id,
        "projectId": "1",
        "name": run.name,
        "displayName": run.display_name,
        "description": run.notes,
        "notes": run.notes,
        "tags": run.tags,
        "group": run.group,
        "jobType": run.job_type,
        "sweepName": run.sweep,
        "config": json.dumps(run.config),
        "summaryMetrics": json.dumps(run.summary),
        "systemMetrics": "{}",
        "historyLineCount": len(run.lines),
        "eventsLineCount": len(run.events),
        "logLineCount": len(run.log),
        "history": [json.dumps(row) for row in run.history],
        "historyKeys": {"lastStep": run.history[-1]["_step"] if run.history else -1},
        "parquetHistory": {"parquetUrls": [], "liveData": run.history},
        "sampledHistory": [run.history],
        "state": run.state,
        "exitcode": run.exit_code,
        "createdAt": "2030-01-01T00:00:00",
        "heartbeatAt": "2030-01-01T00:00:00",
        "readOnly": False,
        "commit": None,
        "shouldStop": False,
        "failed": run.state == "failed",
        "stopped": False,
        "running": run.state == "running",
        "user": {"name": ENTITY, "username": ENTITY},
        "project": {"id": "project", "name": run.project, "entity": {"id": "entity", "name": run.entity}},
    }


def _trial_values(config: dict[str, Any], number: int) -> dict[str, Any] | None:
    """Parameters of the trial with this number; None after the last of a grid."""
    parameters = config["parameters"]
    if config["method"] != "grid":
        chance = random.Random(number)
        return {name: _draw(parameter, chance) for name, parameter in parameters.items()}
    choices = [parameter.get("values", [parameter.get("value")]) for parameter in parameters.values()]
    combinations = list(itertools.product(*choices))
    return dict(zip(parameters, combinations[number], strict=True)) if number < len(combinations) else None


def _draw(parameter: dict[str, Any], chance: random.Random) -> Any:
    if "value" in parameter:
        return parameter["value"]
    if "values" in parameter:
        return chance.choices(parameter["values"], parameter.get("probabilities"))[0]
    if "mu" in parameter:
        return chance.gauss(parameter["mu"], parameter["sigma"])
    low, high = parameter["min"], parameter["max"]
    whole = isinstance(low, int) and isinstance(high, int) and parameter.get("distribution") != "uniform"
    return chance.randint(low, high) if whole else chance.uniform(low, high)
