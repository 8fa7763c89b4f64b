#!/usr/bin/python3
"""A pool of database connections as a web application's workers hold them: real libpq, uneven use.

Driven by JSON lines on stdin, each answered by itself on stdout with its own keys and more:

  {"open": 3}                           three more connections; "ids", "pids" (their backends), "ports" (ours)
  {"open": 1, "conninfo": "keepalives=0"}   the same, with these options beside the ones of the command line
  {"query": 0, "sql": "select 1"}       ask on connection 0; "rows"
  {"reopen": 0}                         throw connection 0 away and open it again; "pid", "port"
  {"wait": true}                        answered when nothing is outstanding; what follows is read only then

Every answer has "seconds", and "error": the text that libpq gave, or null. Queries on different connections run at
the same time; those of one connection, one after the other. At the end of stdin it leaves at once.

  pool.py CONNINFO                      driven as above
  pool.py CONNINFO --workers            by hand: six workers, the first asks every second, each next one half as often;
                                        every answer is a line, until Ctrl-C
"""
import json
import os
import queue
import sys
import threading
import time

import psycopg2

NOT_OURS = ("seconds", "error")


class Connection:
    """One connection and the thread that waits for it, as a worker would."""

    def __init__(self, conninfo):
        self.conninfo = conninfo
        self.jobs = queue.Queue()
        self.connect()
        threading.Thread(target=self.work, daemon=True).start()

    def connect(self):
        self.libpq = psycopg2.connect(self.conninfo)
        self.libpq.autocommit = True
        self.pid = self.libpq.info.backend_pid
        name = os.readlink(f"/proc/self/fd/{self.libpq.fileno()}")
        self.port = local_port(name[len("socket:["):-1])

    def work(self):
        while True:
            self.jobs.get()()

    def query(self, sql):
        with self.libpq.cursor() as cursor:
            cursor.execute(sql)
            return {"rows": [[str(cell) for cell in row] for row in cursor.fetchall()] if cursor.description else []}

    def reopen(self):
        # What is stuck is left to the kernel: close() sends a last word and does not wait.
        self.libpq.close()
        self.connect()
        return {"pid": self.pid, "port": self.port}


def local_port(inode):
    """The local port of a socket, by its inode."""
    with open("/proc/self/net/tcp") as table:
        for line in table:
            fields = line.split()
            if fields[9] == inode:
                return int(fields[1].split(":")[1], 16)
    return None


class Pool:
    """The connections by number, and who is still being waited for."""

    def __init__(self, conninfo):
        self.conninfo = conninfo
        self.connections = []
        self.outstanding = 0
        self.changed = threading.Condition()

    def say(self, answer):
        with self.changed:
            print(json.dumps(answer), flush=True)

    def timed(self, request, action):
        """Run an action and answer the request with how long it took and how it went."""
        start = time.monotonic()
        answer = {key: value for key, value in request.items() if key not in NOT_OURS}
        error = None
        try:
            answer.update(action())
        except Exception as fault:  # whatever libpq says, is the answer
            error = f"{fault}".strip() or type(fault).__name__
        self.say({**answer, "seconds": round(time.monotonic() - start, 3), "error": error})

    def open(self, count, more):
        first = len(self.connections)
        made = [Connection(f"{self.conninfo} {more}") for _ in range(count)]
        self.connections += made
        return {
            "ids": list(range(first, first + count)),
            "pids": [connection.pid for connection in made],
            "ports": [connection.port for connection in made],
        }

    def later(self, number, request, action):
        """Give the work to the connection's own thread."""
        with self.changed:
            self.outstanding += 1

        def job():
            self.timed(request, action)
            with self.changed:
                self.outstanding -= 1
                self.changed.notify_all()

        self.connections[number].jobs.put(job)

    def take(self, request):
        if "open" in request:
            self.timed(request, lambda: self.open(request["open"], request.get("conninfo", "")))
        elif "query" in request:
            connection = self.connections[request["query"]]
            self.later(request["query"], request, lambda: connection.query(request["sql"]))
        elif "reopen" in request:
            connection = self.connections[request["reopen"]]
            self.later(request["reopen"], request, connection.reopen)
        elif "wait" in request:
            with self.changed:
                self.changed.wait_for(lambda: self.outstanding == 0)
            self.timed(request, dict)
        else:
            self.say({**request, "seconds": 0, "error": "open, query, reopen or wait is meant"})


def by_hand(pool):
    """Six workers, used as unevenly as a real pool's: the last ones sleep longer than a router remembers."""
    start = time.monotonic()

    def worker(number, connection):
        while True:
            asked = time.monotonic()
            try:
                connection.query("select 1")
                said = "ok"
            except Exception as fault:
                said = f"{fault}".strip().replace("\n", " | ")
                try:
                    connection.reopen()
                except Exception as again:
                    said += f"; and again: {again}".strip().replace("\n", " | ")
            took = time.monotonic() - asked
            print(f"{asked - start:7.1f} s  worker {number} after {2 ** number:2} s of sleep: {took:7.3f} s  {said}", flush=True)
            time.sleep(2**number)

    pool.open(6, "")
    for number, connection in enumerate(pool.connections):
        threading.Thread(target=worker, args=(number, connection), daemon=True).start()
    while True:
        time.sleep(3600)


def main():
    conninfo = sys.argv[1] if len(sys.argv) > 1 else "host=10.77.2.2 user=postgres dbname=postgres"
    pool = Pool(conninfo)
    if sys.argv[2:] == ["--workers"]:
        by_hand(pool)
    for line in sys.stdin:
        pool.take(json.loads(line))
    os._exit(0)


try:
    main()
except KeyboardInterrupt:
    os._exit(130)
