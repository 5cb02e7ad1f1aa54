"""
Ordinary tools at their ordinary work, in the `build` profile. Languages and servers are in test_runtimes.py.

Every test asks for what the program says of its work, and for silence on standard error: a program that could
not start, or went on without something, says otherwise.
"""

import io
import sys
import tarfile

import pytest

import jail

pytestmark = pytest.mark.needs("userns")

# A script that does not go on after a failure.
BASH = ("bash", "-euo", "pipefail", "-c")

GIT = """
git init --quiet --initial-branch=main project
cd project
echo one > file
git add file
git commit --quiet --message 'first'
git clone --quiet . ../clone
git worktree add --quiet ../tree -b side
cd ../tree
echo two >> file
git commit --quiet --all --message 'second'
cd ../project
git merge --quiet side
git gc --quiet
touch new
git status --porcelain
git log --format=%s
git -C ../clone pull --quiet
git -C ../clone log --oneline | wc -l
git -C ../tree status --porcelain
git fsck --no-progress
"""

# Two objects, made at once, and four threads that would lose counts if their lock did not hold.
C_PROJECT = {
    "count.h": "long count_to(long each, int threads);\n",
    "count.c": """
#include <pthread.h>
#include "count.h"
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total;
static void *count(void *each)
{
	for (long i = 0; i < *(long *)each; i++) {
		pthread_mutex_lock(&lock);
		total++;
		pthread_mutex_unlock(&lock);
	}
	return 0;
}
long count_to(long each, int threads)
{
	pthread_t ids[threads];
	for (int i = 0; i < threads; i++)
		pthread_create(&ids[i], 0, count, &each);
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], 0);
	return total;
}
""",
    "main.c": """
#include <stdio.h>
#include "count.h"
int main(void)
{
	printf("%ld\\n", count_to(100000, 4));
	return 0;
}
""",
    "Makefile": """
CFLAGS = -O2 -Wall -Wextra -Werror -pthread
main: main.o count.o
	$(CC) $(CFLAGS) -o $@ $^
main.o count.o: count.h
""",
}

# PEP 517, with a backend that comes along: an index would be needed for any other.
PACKAGE = {
    "pyproject.toml": """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
""",
    "greeting.py": "def main():\n    print('hello from', __name__)\n",
    "backend.py": """
import zipfile
INFO = "greeting-1.0.dist-info"
FILES = {
    "greeting.py": open("greeting.py").read(),
    f"{INFO}/METADATA": "Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\\ngreet = greeting:main\\n",
    f"{INFO}/RECORD": "",
}
def build_wheel(directory, settings=None, metadata=None):
    with zipfile.ZipFile(f"{directory}/greeting-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
    return "greeting-1.0-py3-none-any.whl"
""",
    "PKG-INFO": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
}

# Each file waits for the other at its end of the pipe: one worker alone would wait forever.
SUITE = """
import pytest
def test_with_the_other():
    open("pipe", __name__[-1]).close()
def test_with_a_directory(tmp_path):
    assert [] == list(tmp_path.iterdir())
@pytest.mark.skip
def test_later(): ...
"""

SQLITE_SHELL = """
pragma journal_mode = wal;
create table t (n integer primary key, s text);
insert into t (s) values ('a'), ('b');
.mode csv
select * from t;
.backup copy.db
"""

JOB = """
trap 'echo at the end' EXIT
work() { echo "part $1" > "part.$1"; }
for n in 1 2 3; do work $n & done
wait
sort <(cat part.*) <(echo 'part 0') | tee all | wc -l
coproc UPPER { tr a-z A-Z; }
echo through a coprocess >&"${UPPER[1]}"
exec {UPPER[1]}>&-
cat <&"${UPPER[0]}"
mkfifo pipe
cat pipe & echo through a pipe > pipe
wait
status=0; timeout 0.1 sleep 60 || status=$?
echo "$status"
(trap 'echo caught; exit 3' TERM; kill -TERM $BASHPID; exit 4) || echo $?
(ulimit -n 16; ulimit -n)
mapfile -t lines < all
echo "${#lines[@]} ${lines[0]} $((6 * 7)) $(printf '%03d' 7)"
if [ -t 0 ]; then echo a terminal; fi
"""

COREUTILS = """
umask 022; mkdir -p a/b; printf '3\\n1\\n2\\n2\\n' > a/numbers
sort -n a/numbers | uniq -c | awk '{ print $1 "x" $2 }' | paste -sd,
sha256sum a/numbers | sha256sum --check -
cp -a a copy; ln -s numbers copy/link; ln copy/numbers copy/b/hard
stat -c '%n %F %h %a' copy/link copy/numbers
chmod 640 copy/numbers; install -m 755 copy/numbers copy/installed
touch -d '2001-02-03 04:05:06 UTC' copy/numbers; date -u -r copy/numbers +%FT%T
mv copy/b moved; truncate -s 1M big; split -b 256K big big.; ls big.* | wc -l
dd if=/dev/zero bs=1k count=3 2>&1 >/dev/null | sed -n 1p
test "$(nproc)" -ge 1; nice -n 5 nice; env -i A=b env; id -un; stdbuf -oL echo line
name=$(mktemp); echo > "$name"; rm "$name"; df --output=target . > /dev/null; du -sb a/numbers
realpath --relative-to=. a/../a/b; chown "$(id -u)" big; rm -r a copy moved big*; ls -A
"""

ARCHIVE = """
umask 022
mkdir -p from/deep; echo text > from/file; ln -s file from/link; ln from/file from/deep/hard
mkfifo from/pipe; chmod 600 from/deep/hard
tar --create --gzip --file archive.tar.gz from
mkdir tar; tar --extract --file archive.tar.gz --directory tar
copy="rsync --archive --hard-links --omit-dir-times --delete --out-format=%n from/ rsync/"
$copy | wc -l
$copy | wc -l
echo new > from/deep/new; rm from/link
$copy
for place in tar/from rsync; do
    (cd $place; find . -mindepth 1 -printf '%P %y %n %m\\n' | sort)
done
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


@pytest.mark.program("git", "bash")
def test_allow_git(build):
    """
    Git makes a repository, a clone and a worktree, merges, collects garbage and pulls.
    """
    author = {"GIT_AUTHOR_NAME": "A U Thor", "GIT_AUTHOR_EMAIL": "author@example.com"}
    committer = {"GIT_COMMITTER_NAME": "C O Mitter", "GIT_COMMITTER_EMAIL": "committer@example.com"}

    assert ["?? new", "second", "first", "2"] == build(*BASH, GIT, env=author | committer)


@pytest.mark.program("gcc", "make", "bash")
def test_allow_c(build, tmp_path):
    """
    A C project is compiled by parallel jobs, is up to date afterwards, and its threads count right.
    """
    for name, text in C_PROJECT.items():
        (tmp_path / name).write_text(text)

    assert ["make: 'main' is up to date.", "400000"] == build(*BASH, "make -sj2 && make && ./main")


def test_allow_pip(build, tmp_path):
    """
    Pip builds a source archive with its backend and installs it into an environment made inside.
    """
    with tarfile.open(tmp_path / "greeting-1.0.tar.gz", "w:gz") as sdist:
        for name, text in PACKAGE.items():
            member = tarfile.TarInfo(f"greeting-1.0/{name}")
            member.size = len(text)
            sdist.addfile(member, io.BytesIO(text.encode()))
    build(sys.executable, "-m", "venv", "env")
    said = build("env/bin/pip", "--disable-pip-version-check", "install", "--no-index", "greeting-1.0.tar.gz")

    assert "Successfully installed greeting-1.0" == said[-1]
    assert ["hello from greeting"] == build("env/bin/greet")


def test_allow_pytest_xdist(build, tmp_path):
    """
    Two workers of pytest-xdist run tests at the same time.
    """
    pytest.importorskip("xdist")
    for name in ("test_r.py", "test_w.py"):
        (tmp_path / name).write_text(SUITE)
    build("mkfifo", "pipe")
    said = build(sys.executable, "-m", "pytest", "-v", "-n2", "--dist=loadfile")

    assert {"[gw0]", "[gw1]"} == {line.split()[0] for line in said if " PASSED " in line}
    assert " 4 passed, 2 skipped in " in said[-1]


@pytest.mark.program("sqlite3")
def test_allow_sqlite_shell(build):
    """
    The shell of SQLite makes a database with a write-ahead log and copies it.
    """
    assert ["wal", "1,a", "2,b"] == build("sqlite3", "data.db", input=SQLITE_SHELL)
    assert ["2"] == build("sqlite3", "copy.db", "select count(*) from t")


@pytest.mark.program("bash")
def test_allow_job_script(build):
    """
    Background jobs, process substitution, a coprocess, pipes, traps, timeouts and limits work in a script.
    """
    said = build(*BASH, JOB)

    assert ["4", "THROUGH A COPROCESS", "through a pipe", "124", "caught", "3", "16"] == said[:7]
    assert ["4 part 0 42 007", "at the end"] == said[7:]


@pytest.mark.program("bash", "awk")
def test_allow_coreutils(build):
    """
    Files are sorted, checked, copied, linked, timed, split and measured, and all of them go away again.
    """
    user = "jail" if jail.probe().uid == 0 else jail.probe().user
    said = build(*BASH, COREUTILS)

    assert ["1x1,2x2,1x3", "a/numbers: OK"] == said[:2]
    assert ["copy/link symbolic link 1 777", "copy/numbers regular file 2 644"] == said[2:4]
    assert ["2001-02-03T04:05:06", "4", "3+0 records in", "5", "A=b", user, "line"] == said[4:11]
    assert ["8\ta/numbers", "a/b"] == said[11:]


@pytest.mark.program("bash", "tar", "gzip", "rsync", "find")
def test_allow_archives(build):
    """
    Links of both kinds, pipes and modes survive tar and rsync, which copies only what changed.
    """
    said = build(*BASH, ARCHIVE)
    kept = ["deep d 2 755", "deep/hard f 2 600"]

    assert ["6", "0", "deleting link", "deep/new"] == said[:4]
    assert [*kept, "file f 2 600", "link l 1 777", "pipe p 1 644"] == said[4:9]
    assert [*kept, "deep/new f 1 644", "file f 2 600", "pipe p 1 644"] == said[9:]
