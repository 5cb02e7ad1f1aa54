"""
Language runtimes and servers in the `build` profile: processes, threads, shared memory, and sockets on loopback.

Every test asks for what the program says of its work, and for silence on standard error. Ports are fixed where
that is simplest: the sandbox's network is its own, and nobody else is on it.
"""

import shutil
import sys
from pathlib import Path

import pytest

import jail

pytestmark = pytest.mark.needs("userns", "netns")

MULTIPROCESSING = """
import multiprocessing, sys
from multiprocessing.shared_memory import SharedMemory

def square(number):
    return number * number

def fill(name):
    block = SharedMemory(name=name)
    block.buf[:4] = b"from"
    block.close()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as pool:
        print(pool.map(square, range(5)))
    block = SharedMemory(create=True, size=4096)
    child = context.Process(target=fill, args=(block.name,))
    child.start()
    child.join()
    print(bytes(block.buf[:4]), child.exitcode)
    block.close()
    block.unlink()
    with context.Manager() as manager:
        shared = manager.dict()
        child = context.Process(target=shared.update, kwargs={"key": "value"})
        child.start()
        child.join()
        print(dict(shared))
"""

NODE = """
const { execFileSync, fork } = require('child_process');
const { Worker } = require('worker_threads');
const fs = require('fs');

if (process.argv[2] === 'child') {
  process.on('message', (n) => { process.send(n + 1); process.disconnect(); });
  return;
}
console.log(execFileSync('sh', ['-c', 'echo from a shell']).toString().trim());
fs.mkdirSync('made/deep', { recursive: true });
fs.writeFileSync('made/deep/file', 'text');
fs.renameSync('made/deep/file', 'made/file');
console.log(fs.readdirSync('made').join(), fs.readFileSync('made/file', 'utf8'));
const child = fork(__filename, ['child']);
child.on('message', (n) => {
  console.log('from a child', n);
  const code = 'const w = require("worker_threads"); w.parentPort.postMessage(w.workerData * 2)';
  new Worker(code, { eval: true, workerData: 21 }).on('message', (m) => console.log('from a thread', m));
});
child.send(1);
"""

PERL = r"""
use strict; use warnings; use IO::Socket::INET; use File::Temp qw(tempfile); use POSIX qw(:sys_wait_h);
pipe(my $out, my $in) or die $!;
my $pid = fork() // die $!;
if (!$pid) { close $out; print $in "from a child\n"; exit 3 }
close $in; print <$out>; waitpid($pid, 0); print WEXITSTATUS($?), "\n";
my ($file, $name) = tempfile(UNLINK => 1); print $file "b\na\n"; close $file;
open(my $sorted, '-|', 'sort', $name) or die $!; print map { s/(\w)/<$1>/r } <$sorted>;
my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die $!;
my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->sockport) or die $!;
print { $server->accept } "over loopback\n"; print <$client>;
local $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; POSIX::pause();
"""


SQLITE = """
import sqlite3, subprocess, sys
WRITER = "import sqlite3; db = sqlite3.connect('data.db'); db.execute('insert into t values (2)'); db.commit()"
db = sqlite3.connect("data.db")
print(db.execute("pragma journal_mode = wal").fetchone())
db.executescript("create table t (n); insert into t values (1);")
db.execute("begin")
print(db.execute("select sum(n) from t").fetchone())
subprocess.run([sys.executable, "-c", WRITER], check=True)
print(db.execute("select sum(n) from t").fetchone())
db.execute("commit")
print(db.execute("select sum(n) from t").fetchone())
"""

JAVA = """
import com.sun.net.httpserver.HttpServer;
import java.net.*;
import java.net.http.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class Job {
    public static void main(String[] args) throws Exception {
        var pool = Executors.newFixedThreadPool(4);
        var squares = pool.invokeAll(IntStream.range(0, 100).mapToObj(n -> (Callable<Integer>) () -> n * n).toList());
        int sum = 0;
        for (var square : squares) sum += square.get();
        System.out.println("from threads " + sum);
        var server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.setExecutor(pool);
        server.createContext("/", exchange -> {
            byte[] body = ("asked for " + exchange.getRequestURI()).getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        var uri = URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/page");
        var request = HttpRequest.newBuilder(uri).build();
        System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
        var child = new ProcessBuilder("echo", "from a child").inheritIO().start();
        System.exit(child.waitFor());
    }
}
"""

GO = """
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path)
	}))
	var group sync.WaitGroup
	var lock sync.Mutex
	total := 0
	for i := 0; i < 50; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			answer, err := http.Get("http://" + listener.Addr().String() + "/page")
			if err != nil {
				panic(err)
			}
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			lock.Lock()
			total += len(body)
			lock.Unlock()
		}()
	}
	group.Wait()
	out, err := exec.Command("echo", "from a child").Output()
	fmt.Print(total, " ", string(out), err, "\\n")
}
"""

# The server says where it is as soon as it listens.
CURL = """
mkdir pages; echo a page > pages/index.html
coproc SERVER { exec python3 -u -m http.server --bind 127.0.0.1 --directory pages 8000 2> log; }
read -r -u "${SERVER[0]}" line; echo "$line"
curl --silent --show-error http://127.0.0.1:8000/ http://localhost:8000/index.html
curl --silent --output /dev/null --write-out '%{http_code} %{remote_ip}\\n' http://127.0.0.1:8000/absent
kill "$SERVER_PID"; wait "$SERVER_PID" || echo "$?"
grep -c 'GET /' log
"""

SQL = """
create table t as select n, n % 7 as k from generate_series(1, 100000) n;
create index on t (k);
set max_parallel_workers_per_gather = 2;
select k, count(*), sum(n) from t where k < 2 group by k order by k;
"""


@pytest.fixture
def build(tmp_path):
    """
    Runs a program in the `build` profile, in a workspace of its own, and gives what it wrote.
    """

    def build(*cmd, **fields):
        result = jail.run(cmd, profile="build", workspace=tmp_path, timeout=120, **fields)
        assert ("", jail.Exited(0)) == (result.stderr.text, result.outcome)
        return result.stdout.text.splitlines()

    return build


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_allow_multiprocessing(method, build, tmp_path):
    """
    A pool, shared memory and a manager work, however processes are started.
    """
    (tmp_path / "job.py").write_text(MULTIPROCESSING)

    assert ["[0, 1, 4, 9, 16]", "b'from' 0", "{'key': 'value'}"] == build(sys.executable, "job.py", method)


@pytest.mark.program("node")
def test_allow_node(build, tmp_path):
    """
    Node runs a shell, a child that it talks to, and a thread, and arranges files.
    """
    (tmp_path / "job.js").write_text(NODE)

    assert ["from a shell", "deep,file text", "from a child 2", "from a thread 42"] == build("node", "job.js")


@pytest.mark.program("perl")
def test_allow_perl(build):
    """
    Perl forks, pipes, listens on loopback, keeps temporary files and gets its alarm.
    """
    assert ["from a child", "3", "<a>", "<b>", "over loopback", "alarm"] == build("perl", "-e", PERL)


def test_allow_sqlite(build, tmp_path):
    """
    A transaction with a write-ahead log does not see what another process commits meanwhile.
    """
    (tmp_path / "job.py").write_text(SQLITE)

    assert ["('wal',)", "(1,)", "(1,)", "(3,)"] == build(sys.executable, "job.py")


@pytest.mark.program("java", "javac")
def test_allow_java(build, tmp_path):
    """
    Java runs a source file and its compiled class: threads, an HTTP server and its client, and a child.
    """
    (tmp_path / "Job.java").write_text(JAVA)
    said = ["from threads 328350", "asked for /page", "from a child"]

    assert said == build("java", "Job.java")
    assert [] == build("javac", "-d", "classes", "Job.java")
    assert said == build("java", "-cp", "classes", "Job")


@pytest.mark.program("go")
def test_allow_go(build, tmp_path):
    """
    Go compiles a program, whose goroutines ask its own HTTP server.
    """
    (tmp_path / "main.go").write_text(GO)
    offline = {"GOTOOLCHAIN": "local", "GOPROXY": "off"}

    assert [] == build("go", "build", "-o", "job", "main.go", env=offline)
    assert ["250 from a child", "<nil>"] == build("./job")


@pytest.mark.program("bash", "curl")
def test_allow_curl(build):
    """
    Curl gets pages from a server on loopback, by address and by name.
    """
    said = build("bash", "-euo", "pipefail", "-c", CURL)

    assert ["a page", "a page", "404 127.0.0.1", "143", "3"] == said[1:]
    assert said[0].startswith("Serving HTTP on 127.0.0.1 port 8000")


@pytest.mark.program("initdb", "pg_ctl", "postgres")
def test_allow_postgresql(tmp_path):
    """
    PostgreSQL is set up, answers over its Unix socket and over TCP, and stops, from one program to the next.
    """
    programs = Path(shutil.which("initdb")).resolve().parent
    options = "-c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp -c fsync=off"
    psql = [
        programs / "psql",
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--username=me",
        "postgres",
    ]
    control = [programs / "pg_ctl", "--silent", "--pgdata=data", "--wait"]
    with jail.Sandbox("build", workspace=tmp_path, timeout=120) as box:
        box.run([programs / "initdb", "--pgdata=data", "--username=me", "--auth=trust", "--no-sync"]).check()
        box.run([*control, "--log=log", f"--options={options}", "start"]).check()
        by_socket = box.run([*psql, "--host=/tmp"], input=SQL).check()
        by_address = box.run(
            [*psql, "--host=127.0.0.1", "--command=select inet_server_addr(), count(*) from t"]
        ).check()
        box.run([*control, "--mode=fast", "stop"]).check()
        refused = box.run([*psql, "--host=127.0.0.1", "--command=select 1"])

    assert ["0|14285|714264285", "1|14286|714278571"] == by_socket.stdout.text.splitlines()
    assert "127.0.0.1|100000\n" == by_address.stdout.text
    assert (jail.Exited(2), True) == (refused.outcome, "Connection refused" in refused.stderr.text)
    assert "database system is shut down" in (tmp_path / "log").read_text().splitlines()[-1]
