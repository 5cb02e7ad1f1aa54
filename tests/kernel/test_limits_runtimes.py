"""
A limit of memory that runtimes can live with: they map far more than they use. getrlimit(2), proc_pid_status(5)

Each uses 200 MiB under a limit of 1 GiB, and is ended under one of 100 MiB.
"""

import pytest

import jail

JAVA = """
public class Main {
    public static void main(String[] args) {
        byte[][] held = new byte[200][];
        for (int i = 0; i < held.length; i++) { held[i] = new byte[1 << 20]; held[i][i] = 1; }
        System.out.println(held.length);
    }
}
"""
GO = """
package main
import "fmt"
func main() {
    held := make([]byte, 200 << 20)
    for i := range held { held[i] = 1 }
    fmt.Println(len(held) >> 20)
}
"""
NODE = "const held = []; for (let i = 0; i < 200; i++) held.push(Buffer.alloc(1 << 20, 1)); console.log(held.length)"

RUNTIMES = [
    pytest.param("Main.java", JAVA, "java Main.java", id="java", marks=pytest.mark.program("java", "javac")),
    pytest.param("main.go", GO, "go run main.go", id="go", marks=pytest.mark.program("go")),
    pytest.param("main.js", NODE, "node main.js", id="node", marks=pytest.mark.program("node")),
]


def run(tmp_path, name, source, line, **fields):
    (tmp_path / name).write_text(source)
    env = {"GOCACHE": "/tmp/go", "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    return jail.run(
        line, shell=True, profile="build", workspace=tmp_path, cgroup="none", timeout=200, env=env, **fields
    )


@pytest.mark.needs("userns", "proc")
@pytest.mark.parametrize(("name", "source", "line"), RUNTIMES)
def test_allow_a_runtime(tmp_path, name, source, line):
    """
    What it maps and does not use is no memory.
    """
    result = run(tmp_path, name, source, line, memory="1G")

    assert (jail.Exited(0), "200\n") == (result.outcome, result.stdout.text), result.stderr.text
    assert 200 << 20 < result.usage.memory_peak_bytes < 1 << 30


@pytest.mark.needs("userns", "proc")
@pytest.mark.parametrize(("name", "source", "line"), RUNTIMES)
def test_deny_a_runtime(tmp_path, name, source, line):
    """
    The other side: what it uses is.
    """
    result = run(tmp_path, name, source, line, memory="100M")

    assert isinstance(result.outcome, jail.OutOfMemory)
