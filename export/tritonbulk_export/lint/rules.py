"""The rules by code: what each one means and what mends it; and what a look at an entry finds.

An *error* is refused by Triton, or answers wrongly; a *warning* loads and is a trap. The codes are
promises: they may be added to, never reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be wrong.

    Attributes:
        code: a letter for the area and three digits.
        level: ``error`` or ``warning``.
        meaning: what goes wrong on the server.
        fix: what to do.
    """

    code: str
    level: Level
    meaning: str
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that something breaks.

    Attributes:
        code: of the rule.
        level: of the rule.
        place: entry, file and field, such as ``m/config.pbtxt dynamic_batching``.
        detail: what was found there.
        meaning: of the rule.
        fix: of the rule.
    """

    code: str
    level: Level
    place: str
    detail: str
    meaning: str
    fix: str

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.place}: {self.code} {self.level}: {self.detail}: {self.meaning}; {self.fix}"


def found(code: str, place: str, detail: str) -> Finding:
    """Return the finding that rule ``code`` is broken at ``place``."""
    rule = RULES[code]
    return Finding(code, rule.level, place, detail, rule.meaning, rule.fix)


def _error(code: str, meaning: str, fix: str) -> Rule:
    return Rule(code, "error", meaning, fix)


def _warning(code: str, meaning: str, fix: str) -> Rule:
    return Rule(code, "warning", meaning, fix)


_FOLDERS = (
    _error(
        "R101",
        "Triton takes every folder of the repository, hidden ones too, for a model, and fails",
        "move it out of the repository",
    ),
    _error(
        "R102",
        "Triton cannot read the configuration, and so not the model",
        "mend the text; unknown fields are errors too",
    ),
    _error(
        "R103",
        "the name in config.pbtxt must be that of the folder",
        "leave the name out, or mend it",
    ),
    _error(
        "R104",
        "no version is available under the version policy, so the model does not load",
        "add the version's folder, or name one that is there in version_policy",
    ),
    _error(
        "R105",
        "a version's number does not fit 64 bits, which ends the whole server",
        "rename the folder to at most 18 digits",
    ),
    _error(
        "R106",
        "Triton reads only the digits in front, takes it for that version, and does not find it",
        "move it out of the entry",
    ),
    _warning("R107", "Triton does not see this as a version", "move it out, or rename it"),
    _warning(
        "R108", "Triton serves the other versions and only logs this one", "mend version_policy"
    ),
    _warning(
        "R109",
        "it leads out of the repository: what is served changes without the repository changing, "
        "and containers do not see it",
        "put a copy of the file there",
    ),
    _warning(
        "R110",
        "a poll takes each change of such a file for a change of the model and loads it again",
        "remove it",
    ),
    _error("R111", "the server cannot tell which backend runs the model", "write backend"),
    _error(
        "R112", "the model's file is not in the version's folder", "put it there, or mend the name"
    ),
    _warning(
        "R113",
        "without a backend in the configuration, Triton looks for the model's file in the first "
        "folder of the entry, whatever that is",
        "write backend and default_model_filename",
    ),
)

_CONFIGURATION = (
    _error("C201", "a batch size is not negative", "give at least 1, or 0 for no batching"),
    _error("C202", "a preferred batch has at least one row", "leave preferred_batch_size out"),
    _error(
        "C203",
        "a preferred batch is larger than max_batch_size",
        "leave preferred_batch_size out, or raise max_batch_size",
    ),
    _error(
        "C204",
        "the default priority must be one of the levels, which count from 1",
        "set default_priority_level",
    ),
    _error("C205", "a queue policy is for a priority level that does not exist", "mend its key"),
    _error(
        "C206",
        "order cannot be preserved across priorities, nor with timeouts that delay",
        "leave preserve_ordering out: tritonbulk orders answers itself",
    ),
    _error("C207", "only KIND_GPU instances name GPUs", "mend kind or gpus"),
    _error("C208", "there is no GPU on this server", "serve on a GPU host, or with --cpu"),
    _error("C209", "profiles are for TensorRT engines, numbered from 0", "remove profile"),
    _error("C210", "responses of such models cannot be cached", "leave response_cache out"),
    _error("C211", "platform and backend contradict each other", "leave platform out"),
    _error("C212", "the sequence batcher's fields contradict each other", "mend sequence_batching"),
    _warning(
        "C213",
        "a count below 1 means Triton's default: 2 instances on a CPU, each with all cores",
        "give a count of at least 1",
    ),
    _warning(
        "C214",
        "a batch of one row, or none, leaves the dynamic batcher nothing to do but queue",
        "give a max_batch_size above 1",
    ),
    _warning(
        "C215",
        "queue policies and priorities turn off prefetching, and before the fix of "
        "triton-inference-server/core#509 the batcher then stalls while full batches wait",
        "leave them out, or serve with a release that has the fix",
    ),
    _warning(
        "C216",
        "a request's own timeout counts only where it is shorter than a default that is not 0, and "
        "so never here",
        "give default_timeout_microseconds a generous value",
    ),
    _warning(
        "C217",
        "preferred sizes make the batcher wait or run odd sizes; only TensorRT engines with "
        "several profiles gain by them",
        "leave preferred_batch_size out",
    ),
    _warning(
        "C218",
        "Triton then starts 2 instances on a CPU, each with a thread for every core",
        "write instance_group with a count, and intra_op_thread_count",
    ),
    _warning(
        "C219",
        "bulk rows do not repeat: each pays for a look-up and a copy into the cache",
        "leave response_cache out",
    ),
    _warning(
        "C220",
        "a batch size of 0 that the model's file allows to batch becomes 4 when the server starts",
        "write max_batch_size",
    ),
    _warning(
        "C221",
        "a full request or its answer is above the 2 GiB that one message can have",
        "lower max_batch_size",
    ),
    _error("C222", "a metric has no family, options or buckets", "mend model_metrics"),
    _error(
        "C223",
        "the ONNX Runtime backend answers a request once, and plain requests to a decoupled model "
        "are refused",
        "leave model_transaction_policy out",
    ),
    _warning(
        "C224",
        "a repository agent may change what is loaded, which lint does not see; the embedded "
        "server has no agents",
        "lint what the agent makes, and serve it from the official Triton container",
    ),
)

_TENSORS = (
    _error("T301", "every tensor has a name", "write name"),
    _error("T302", "every tensor has a datatype", "write data_type"),
    _error(
        "T303",
        "every tensor has dimensions; a scalar a row is [1], reshaped to nothing",
        "write dims",
    ),
    _error("T304", "a dimension is at least 1, or -1 for any size", "mend dims"),
    _error("T305", "a model that does not batch has no scalars", "leave reshape out"),
    _error("T306", "dims and reshape must hold the same number of elements", "mend reshape"),
    _error("T307", "FORMAT_NHWC and FORMAT_NCHW want three dimensions", "leave format out"),
    _error("T308", "shape tensors and non-linear formats are for TensorRT alone", "leave it out"),
    _error("T309", "two tensors have one name", "rename one"),
    _error("T310", "the file of labels is not in the entry", "put it there"),
    _error("T311", "batch_input or batch_output names or counts what is not there", "mend it"),
    _error(
        "T312",
        "the configuration names no inputs or outputs, and this backend cannot fill them in",
        "write input and output",
    ),
)

_ENSEMBLES = (
    _error(
        "E401",
        "scheduling, platform and backend of an ensemble belong together",
        'write platform: "ensemble" and ensemble_scheduling, and no backend',
    ),
    _error(
        "E402", "an ensemble has no instances, optimization or warm-up of its own", "leave it out"
    ),
    _error(
        "E403",
        "an ensemble without a complete step does nothing",
        "write steps with model_name and maps",
    ),
    _error("E404", "the step's model is not in the repository", "add it, or mend model_name"),
    _error("E405", "a tensor of the ensemble is not connected", "mend the maps of the steps"),
    _error("E406", "a tensor is mapped twice", "map it once"),
    _error(
        "E407", "the step's model has no such tensor, or one that is not mapped", "mend the map"
    ),
    _error(
        "E408",
        "the two ends of a tensor have different datatypes",
        "export one of the models again",
    ),
    _error(
        "E409", "the two ends of a tensor have different shapes", "export one of the models again"
    ),
    _error("E410", "a step takes smaller batches than the ensemble allows", "lower max_batch_size"),
    _error("E411", "the step's version is not served", "mend model_version, or use -1"),
    _error("E412", "ensembles that contain each other cannot be loaded", "break the circle"),
    _error("E413", "the step's model does not load", "mend that model first"),
)

_ONNX = (
    _error("O501", "ONNX Runtime cannot read the model", "export it again"),
    _error(
        "O502",
        "the ONNX Runtime of that Triton does not know the model's opset or IR version",
        "export it again with opset 20 and IR 10",
    ),
    _error("O503", "the model has no such tensor", "use the names of the model"),
    _error("O504", "model and configuration have different datatypes", "use the model's"),
    _error(
        "O505",
        "model and configuration have different shapes",
        "use the model's, without the batch dimension",
    ),
    _error(
        "O506",
        "the model does not batch: the first dimension of every input and output must be open",
        "export it with a dynamic batch, or set max_batch_size 0",
    ),
    _error(
        "O507",
        "every input of the model must be in the configuration, once",
        "add or remove inputs",
    ),
    _error(
        "O508",
        "Triton serves tensors of its own datatypes alone: no sequences, maps or BF16",
        "take ZipMap out, or cast, before exporting",
    ),
    _error(
        "O509",
        "weights outside the model's file are missing, too short, or outside its folder",
        "export it again; keep model.onnx and its data in one folder",
    ),
    _error(
        "O510",
        "the ONNX Runtime backend knows no such accelerator or key and does not load",
        "use one of the documented names",
    ),
    _error("O511", "the value has no meaning for the ONNX Runtime backend", "mend it"),
    _error("O512", "optional inputs need a model that does not batch", "leave optional out"),
    _error("O513", "the library of operators is not in the repository", "add it, or leave it out"),
    _warning(
        "O514",
        "the ONNX package is not installed, so graphs were not looked at",
        "pip install 'tritonbulk[export-onnx]'",
    ),
    _warning(
        "O515",
        "with profiles for some bounds only, every new shape builds an engine anew",
        "give trt_profile_min_shapes, _opt_shapes and _max_shapes together",
    ),
    _warning(
        "O516",
        "an accelerator for GPUs is ignored where instances run on a CPU",
        "place the instances on GPUs",
    ),
    _error("O517", "the embedded server has no such feature", "use the official Triton container"),
    _error(
        "O518",
        "ONNX Runtime computes BF16 on GPUs alone",
        "export it with another precision, or serve it on a GPU",
    ),
)

_WARM_UP = (
    _error("W601", "a warm-up sends more rows than max_batch_size", "lower its batch_size"),
    _error("W602", "a warm-up must give every input of the model, and no other", "mend its inputs"),
    _error(
        "W603", "the data of a warm-up is not in the entry's folder warmup", "put the file there"
    ),
    _error(
        "W604",
        "the data of a warm-up is shorter than one row; Triton repeats one row",
        "mend batch_size, dims, or the file",
    ),
    _error("W605", "a warm-up's datatype or dimensions are not the model's", "mend them"),
)

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.code: rule
        for rule in (*_FOLDERS, *_CONFIGURATION, *_TENSORS, *_ENSEMBLES, *_ONNX, *_WARM_UP)
    }
)
"""All rules by code."""
