"""What benches of the hub have in common: a PostgreSQL of their own, and the kernel's clock."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import psycopg2

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARIES = os.environ.get("EVENKEEL_BINARIES", f"{ROOT}/target/release")
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(what, holds, patience=300):
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"compare: waited {patience} s for {what}")
        time.sleep(0.1)


def cpu(pid):
    """Seconds that a process, what it has reaped and its children used."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(") ", 1)[1].split()
        own = sum(map(int, fields[11:15])) / TICKS
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            return own + sum(cpu(child) for child in children.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return 0


class Cluster:
    """A PostgreSQL of its own, durable, with its own defaults; more lines of configuration may be added."""

    def __init__(self, folder, more=""):
        self.folder, self.port = f"{folder}/pg", free_port()
        bins = "/usr/lib/postgresql"
        self.bin = f"{bins}/{max(os.listdir(bins), key=int)}/bin"
        os.mkdir(self.folder)
        shutil.chown(self.folder, "postgres", "postgres")
        self.run([f"{self.bin}/initdb", "-D", f"{self.folder}/data", "-A", "trust", "-U", "hub", "-E", "UTF8", "--locale=C"])
        with open(f"{self.folder}/data/postgresql.conf", "a") as conf:
            conf.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.folder}'\n{more}")
        self.server = subprocess.Popen(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--",
                                        f"{self.bin}/postgres", "-D", f"{self.folder}/data"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("PostgreSQL", self.answers)

    def run(self, command):
        subprocess.run(["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--", *command],
                       check=True, stdout=subprocess.DEVNULL)

    def answers(self):
        try:
            self.connect("postgres").close()
            return True
        except psycopg2.OperationalError:
            return False

    def connect(self, database):
        one = psycopg2.connect(host=self.folder, port=self.port, user="hub", dbname=database)
        one.autocommit = True
        return one

    def ask(self, database, text):
        with contextlib.closing(self.connect(database)) as one, one.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else None

    def end(self):
        self.server.send_signal(signal.SIGINT)
        self.server.wait()

    def size(self, database):
        self.ask(database, "CHECKPOINT")
        return int(self.ask(database, f"SELECT pg_database_size('{database}')")[0][0])

    def store(self, database):
        return f"postgres://hub@/{database}?host={self.folder}&port={self.port}"


class Hub:
    """The hub on a database of a cluster; requests are not rationed."""

    def __init__(self, cluster, folder, database):
        self.port = free_port()
        with open(f"{folder}/hub.yaml", "w") as config:
            config.write("requests_per_second: 1000000\n")
        self.server = subprocess.Popen([f"{BINARIES}/evenkeel-hub", "serve", "--config", f"{folder}/hub.yaml", "--listen",
                                        f"127.0.0.1:{self.port}", "--store", cluster.store(database)], stderr=subprocess.DEVNULL)
        until("the hub", self.listens)

    def listens(self):
        if self.server.poll() is not None:
            sys.exit("the hub ended")
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def flood(self, *options):
        """What the swarm says of its flood."""
        command = [f"{BINARIES}/evenkeel-swarm", "flood", "--hub", f"http://127.0.0.1:{self.port}", "--hub-pid", str(self.server.pid)]
        return subprocess.run([*command, *map(str, options)], check=True, capture_output=True, text=True).stdout

    def end(self):
        self.server.terminate()
        self.server.wait()
