"""Lines of servers: as typed, and in the files of deployments; those that hold none, several, or what nobody tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config import engine_config
from loratwin.engines.server_line import defaults_of, find_line
from loratwin.engines.vllm import VLLM
from loratwin.errors import InputError

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"

COMPOSE = f"""\
services:
  web: {{image: "nginx:1.27", command: ["nginx", "-g", "daemon off;"]}}
  vllm:
    image: vllm/vllm-openai:v0.10.2
    environment: ["MODEL={LLAMA}", "TOKEN=${{TOKEN}}"]
    command: >
      --model ${{MODEL}} --enable-lora --max-loras 4
      --max-lora-rank ${{RANK:-32}} --api-key ${{KEY}}
"""
COMPOSE_SHELL = f"""\
services:
  vllm:
    image: ours
    entrypoint: ["/bin/sh", "-c"]
    command:
      - |
        set -e
        exec vllm serve {LLAMA} \\
          --enable-lora --max-loras 4 --max-lora-rank 32
"""
DEPLOYMENT = """\
apiVersion: v1
kind: Service
metadata: {name: vllm}
spec: {ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: support}
spec:
  template:
    spec:
      initContainers:
        - {name: fetch, image: busybox, command: ["sh", "-c", "wget x"]}
      containers:
        - name: vllm
          image: vllm/vllm-openai:v0.10.2
          command: ["/bin/sh", "-c"]
          args: ["vllm serve $(MODEL) --enable-lora --max_loras 4 --max-lora-rank=32 2>&1 | tee log"]
          env:
            - {name: MODEL, value: meta-llama/Llama-3.1-8B-Instruct}
            - {name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: t}}}
"""
ARGS = f"""\
kind: Deployment
metadata: {{name: d}}
spec:
  containers:
    - name: server
      image: registry.example.com/vllm-openai:v0.10.2
      args: [--model, {LLAMA}, --enable-lora, --max-loras, 4, --max-lora-rank=32]
"""
LLM_D = f"""\
modelArtifacts: {{uri: "hf://{LLAMA}"}}
decode:
  parallelism: {{tensor: 2}}
  containers:
    - {{name: vllm, modelCommand: vllmServe, args: [--enable-lora, --max-loras, "4", --max-lora-rank, "32"]}}
"""
STACK = f"""\
servingEngineSpec:
  modelSpec:
    - name: llama8b
      repository: vllm/vllm-openai
      tag: v0.10.2
      modelURL: {LLAMA}
      enableLoRA: true
      vllmConfig: {{v1: 1, maxLoras: 4, extraArgs: [--max-lora-rank, "32"]}}
"""
CHART = f"""\
image:
  repository: vllm/vllm-openai
  tag: v0.10.2
  command: [vllm, serve, {LLAMA}, --enable-lora, --max-loras, "4", --max-lora-rank, "32"]
"""
CONFIG = f"""\
model: {LLAMA}
enable-lora: true
max_loras: 4
max-lora-rank: 32
lora-modules: [a=/x/a, b=/x/b]
compilation-config: {{level: 3}}
"""
SCRIPT = f"""\
#!/bin/bash
export M={LLAMA}
vllm serve $M \\
  --enable-lora --max-loras 4 \\
  --max-lora-rank 32 &
"""
FILES = {
    "compose.yaml": (COMPOSE, "vllm-0.10.2"),
    "shell.yaml": (COMPOSE_SHELL, ""),
    "deployment.yaml": (DEPLOYMENT, "vllm-0.10.2"),
    "args.yaml": (ARGS, "vllm-0.10.2"),
    "llm-d.yaml": (LLM_D, ""),
    "stack.yaml": (STACK, "vllm-0.10.2"),
    "chart.yaml": (CHART, "vllm-0.10.2"),
    "config.yaml": (CONFIG, ""),
    "start.sh": (SCRIPT, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_of_deployments_hold_the_same_server(name: str, tmp_path: Path) -> None:
    text, version = FILES[name]
    (tmp_path / name).write_text(text)
    line = find_line(str(tmp_path / name))
    said = defaults_of(line)
    assert (said["llm"], said["max_loras"], said["max_lora_rank"]) == (LLAMA, 4, 32)
    assert line.version == version
    assert said.get("tensor_parallel") == (2 if name == "llm-d.yaml" else None)


def test_lines_as_typed() -> None:
    docker = "docker run --gpus all -v ~/c:/root -p 8000:8000 vllm/vllm-openai:v0.11.0 --model m --max-num-seq 1k"
    assert defaults_of(find_line(docker)) == {
        "max_num_seqs": 1000, "max_loras": 0, "llm": "m", "engine": "vllm-0.11.0",
        "server_args": "--model m --max-num-seq 1k",
    }  # fmt: skip
    typed = find_line("VLLM_USE_V1=1 python3 -m vllm.entrypoints.openai.api_server --model m --enable-lora > log 2>&1")
    assert defaults_of(typed)["max_loras"] == 1 and defaults_of(typed)["max_lora_rank"] == 16
    assert find_line("python3 -m sglang.launch_server --model-path m").arguments.engine.name == "sglang"


def test_a_config_file_counts_and_the_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.yaml").write_text(CONFIG)
    (tmp_path / "start.sh").write_text("vllm serve --config server.yaml --max-loras 8\n")  # relative to the script
    said = defaults_of(find_line(str(tmp_path / "start.sh")))
    assert (said["llm"], said["max_loras"], said["max_lora_rank"]) == (LLAMA, 8, 32)
    monkeypatch.chdir(tmp_path)
    assert find_line("vllm serve other --config server.yaml").arguments.model == "other"
    assert engine_config(ServerArguments(VLLM, "m --config server.yaml")).max_loras == 4  # was silently 0
    with pytest.raises(InputError, match=r"--config none\.yaml: cannot be read"):
        engine_config(ServerArguments(VLLM, "m --config none.yaml"))
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(InputError, match=r"list\.yaml: a mapping of options is expected"):
        find_line("vllm serve m --config list.yaml")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nothing here", "no line that starts a server is in it"),
        ("vllm serve 'm", "No closing quotation"),
        ("vllm serve m --max-loras", "--max-loras needs a value"),
        ("vllm serve m --max-lora 3", "beginning of several options"),
        ("vllm serve $LLM", "the variable's value is not said there"),
        ("none.yaml", "no such file"),
    ],
)
def test_other_lines_are_refused(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_line(given)


def test_of_several_servers_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("services:\n  a: {command: vllm serve m}\n  b: {command: vllm serve m --max-loras 2}\n")
    with pytest.raises(InputError, match=r"several servers are in it \(a, b\); name one: .*two\.yaml#a"):
        find_line(str(path))
    assert defaults_of(find_line(f"{path}#b"))["server_args"] == "m --max-loras 2"
    with pytest.raises(InputError, match="no server 'c' in it; there are a, b"):
        find_line(f"{path}#c")
    path.write_text("services:\n  a: {command: vllm serve m}\n  b: {command: vllm serve m}\n")
    assert find_line(str(path)).arguments.model == "m"
    path.write_text("spec: {{ .Values.x }}\n  y: []\n")
    with pytest.raises(InputError, match="a template of Helm: render it first"):
        find_line(str(path))


POD = """\
apiVersion: v1
kind: Pod
spec:
  NODE
  containers:
    - {image: "vllm/vllm-openai:v0.11.0", args: [--model, LLM, --enable-lora]}
"""


@pytest.mark.parametrize(
    ("node", "gpu"),
    [
        ("nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}", "NVIDIA-H100-80GB-HBM3"),
        ("nodeSelector: {disk: ssd}", ""),
        (
            "affinity: {nodeAffinity: {required: [{matchExpressions: "
            "[{key: nvidia.com/gpu.product, operator: In, values: [NVIDIA-L40S]}]}]}}",
            "NVIDIA-L40S",
        ),
        ("nodeSelectorTerms: [{matchExpressions: [{key: nvidia.com/gpu.product, values: [NVIDIA-L4, L40S]}]}]", ""),
    ],
)
def test_labels_of_nodes_tell_the_gpu(node: str, gpu: str, tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(POD.replace("NODE", node).replace("LLM", LLAMA))
    line = find_line(str(tmp_path / "pod.yaml"))
    assert (line.gpu, line.version) == (gpu, "vllm-0.11.0")


def test_a_file_that_holds_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: &all\n  vllm: *all\n")
    with pytest.raises(InputError, match="compose.yaml: a part of it holds itself"):
        find_line(str(tmp_path / "compose.yaml"))


LINES = {
    "a comment behind and between": f"""
vllm serve {LLAMA} --enable-lora \\
  --max-loras 4 --max-lora-rank 32  # don't take more
# --max-loras 8 \\
""",
    "options in a variable": f"""
EXTRA="--enable-lora --max-loras 4"
EXTRA+=" --max-lora-rank 32"
vllm serve {LLAMA} $EXTRA
""",
    "options in an array": f"""
ARGS=(
  {LLAMA}
  --enable-lora  # on
  --compilation-config '{{"level": 3}}'
)
ARGS+=(--max-loras 4 --max-lora-rank 32)
exec vllm serve "${{ARGS[@]}}"
""",
    "defaults": f"vllm serve ${{MODEL:={LLAMA}}} --enable-lora --max-loras ${{N:-4}} --max-lora-rank ${{R-32}}",
    "quoted JSON": (
        f'vllm serve --enable-lora --lora-modules \'{{"name": "a b", "path": "/x/a b"}}\' b=/y '
        f"--max-loras 4 --max-lora-rank 32 -O3 --model {LLAMA}"
    ),
    "shorts before the LLM": f"vllm serve -O3 {LLAMA} -tp 1 --enable-lora --max-loras 4 --max-lora-rank 32",
    "a working folder like an image": (
        f"docker run -w /vllm-workspace -v /data/vllm:/root --gpus all vllm/vllm-openai:v0.9.1 --model {LLAMA} "
        "--enable-lora --max-loras 4 --max-lora-rank 32"
    ),
    "an entrypoint": (
        "docker run --entrypoint vllm --rm vllm/vllm-openai:v0.9.1 "
        f"serve {LLAMA} --enable-lora --max-loras 4 --max-lora-rank 32"
    ),
    "a module of its own": (
        f"python -m vllm.entrypoints.cli.main serve {LLAMA} --enable-lora --max-loras 4 --max-lora-rank 32"
    ),
}


@pytest.mark.parametrize("kind", LINES)
def test_what_shells_do_with_a_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "start.sh").write_bytes(b"\xef\xbb\xbf#!/bin/bash\r\n" + LINES[kind].encode())
    for given in (LINES[kind], str(tmp_path / "start.sh")):
        said = defaults_of(find_line(given))
        assert (said["llm"], said["max_loras"], said["max_lora_rank"]) == (LLAMA, 4, 32), said
        assert said.get("engine") == ("vllm-0.9.1" if "docker" in LINES[kind] else None)


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("v0.10.1.1", "vllm-0.10.1"),
        ("v0.11.0-x86_64", "vllm-0.11.0"),
        ("v0.8.5.post1", "vllm-0.8.5.post1"),
        ("latest", ""),
        ("${TAG:-v0.9.1}", "vllm-0.9.1"),
    ],
)
def test_versions_of_images(tag: str, version: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        f"services:\n  vllm:\n    image: vllm/vllm-openai:{tag}\n    command: --model m --enable-lora\n"
    )
    assert find_line(str(tmp_path / "compose.yaml")).version == version


def test_the_environment_file_of_compose(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services:\n  vllm:\n    image: vllm/vllm-openai:v0.9.1\n    environment: {NAME: '${MODEL}'}\n"
        "    entrypoint: [sh, -c]\n    command: ['vllm serve $$NAME --enable-lora --max-loras ${SLOTS}']\n"
    )
    with pytest.raises(InputError, match="the variable's value is not said there"):
        find_line(str(tmp_path / "compose.yaml"))
    (tmp_path / ".env").write_text(f"# ours\nMODEL='{LLAMA}'\nexport SLOTS=4  # of rank 16\n")
    said = defaults_of(find_line(str(tmp_path / "compose.yaml")))
    assert (said["llm"], said["max_loras"]) == (LLAMA, 4)


def test_a_script_in_a_config_map(tmp_path: Path) -> None:
    (tmp_path / "k8s.yaml").write_text(
        "kind: ConfigMap\nmetadata: {name: scripts}\ndata:\n  note: it's\n  start.sh: |\n    #!/bin/bash\n"
        f"    exec vllm serve {LLAMA} \\\n      --enable-lora --max-loras 4\n---\n"
        "kind: Deployment\nspec: {containers: [{name: a, image: ours, command: [bash, /scripts/start.sh]}]}\n"
    )
    assert defaults_of(find_line(str(tmp_path / "k8s.yaml")))["max_loras"] == 4


def test_variables_of_a_config_map(tmp_path: Path) -> None:
    (tmp_path / "k8s.yaml").write_text(
        f"kind: List\nitems:\n- kind: ConfigMap\n  metadata: {{name: llm}}\n  data: {{MODEL: {LLAMA}, SLOTS: '4'}}\n"
        "- kind: Deployment\n  spec:\n    containers:\n    - image: vllm/vllm-openai:v0.9.1\n"
        "      envFrom: [{configMapRef: {name: llm}}, {secretRef: {name: s}}]\n"
        "      env: [{name: N, valueFrom: {configMapKeyRef: {name: llm, key: SLOTS}}}]\n"
        "      args: [--model, $(MODEL), --enable-lora, --max-loras, $(N)]\n"
    )
    said = defaults_of(find_line(str(tmp_path / "k8s.yaml")))
    assert (said["llm"], said["max_loras"]) == (LLAMA, 4)


def test_extra_arguments_of_a_chart(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(
        f"vllm:\n  image: vllm/vllm-openai:v0.9.1\n  model: {LLAMA}\n"
        "  extraArgs: [--enable-lora, --max-loras, '4', --max-lora-rank, '32']\n"
    )
    said = defaults_of(find_line(str(tmp_path / "values.yaml")))
    assert (said["llm"], said["max_loras"], said["engine"]) == (LLAMA, 4, "vllm-0.9.1")


def test_a_slip_in_a_config_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text(CONFIG + "max-num-seq_s: 64\n")
    with pytest.raises(InputError, match="'max-num-seq-s' is no option of any version of vLLM; did you mean"):
        find_line(str(tmp_path / "server.yaml"))
