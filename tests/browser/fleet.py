"""A hub with a fleet to look at: the real programs, on this machine's own address, in a folder that goes with them."""

import hashlib
import json
import subprocess
import tempfile
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
NEW = "3f2c1a" + "0" * 34


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")[:-4] + "Z"


def digest(items):
    """docs/report.md: what the hub compares with its own."""
    field = lambda text: len(text.encode()).to_bytes(8, "little") + text.encode()
    told = b""
    for item in sorted(items, key=lambda item: item["id"]):
        status = "compliant" if item["status"] == "repaired" else item["status"]
        told += field(item["id"]) + field(status)
        if status != "compliant":
            for one in sorted(item.get("drift", []), key=lambda one: (one["layer"], one["attr"])):
                told += b"".join(field(one[key]) for key in ("layer", "attr", "observed", "desired"))
    return "sha256:" + hashlib.sha256(told).hexdigest()


class Fleet:
    """A hub that listens, the accounts of three people, and many nodes that are simulated. Everything ends with it."""

    def __init__(self, agents):
        self.folder = tempfile.TemporaryDirectory(prefix="evenkeel-browser-")
        self.store = f"sqlite:{self.folder.name}/hub.db"
        config = Path(self.folder.name, "hub.yaml")
        config.write_text("requests_per_second: 1000000\n")
        serve = ["serve", "--listen", "127.0.0.1:0", "--store", self.store, "--config", str(config)]
        log = open(f"{self.folder.name}/log", "wb")
        self.hub = subprocess.Popen([self.program("evenkeel-hub"), *serve], stderr=log, env={"RUST_LOG": "info", "NO_COLOR": "1"})
        self.url = self.listening(Path(log.name))
        self.epoch, self.told = int(time.time()), {}
        for name, role, more in [("vera", "viewer", []), ("olga", "operator", ["--tier", "middleware"]), ("anna", "admin", [])]:
            self.beside(["user", "add", name, "--role", role, *more, "--password-file", "-"], PASSWORD)
        interval = max(60, agents // 400)
        run = ["run", "--hub", self.url, "--agents", str(agents), "--interval", f"{interval}s", "--for", f"{interval * 3 // 2}s"]
        # It goes on while people look.
        self.swarm = subprocess.Popen(
            [self.program("evenkeel-swarm"), *run, "--drift", "0.02"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.agents = agents

    @staticmethod
    def program(name):
        """The optimised one where there is one."""
        found = [ROOT / "target" / kind / name for kind in ("release", "debug")]
        return str(next(path for path in found if path.exists()))

    def listening(self, log):
        patience = time.monotonic() + 60
        while time.monotonic() < patience:
            for line in log.read_text().splitlines():
                if "listening on " in line:
                    return line.split("listening on ")[1].split()[0].rstrip(",")
            time.sleep(0.05)
        raise SystemExit(f"the hub does not listen:\n{log.read_text()}")

    def beside(self, args, given=""):
        done = subprocess.run([self.program("evenkeel-hub"), *args, "--store", self.store], input=given, text=True, capture_output=True)
        if done.returncode:
            raise SystemExit(f"evenkeel-hub {' '.join(args)}: {done.stderr}")
        return done.stdout

    def hears(self, name, tier, items, **spec):
        """One node tells how it stands; times are now."""
        n = self.told[name] = self.told.get(name, 0) + 1
        counts = dict.fromkeys("compliant repaired pending non_compliant error skipped not_applicable".split(), 0)
        for item in items:
            counts[item["status"]] += 1
        data = {
            "node": {"name": name, "tier": tier, "labels": {"rack": "7"}, "boot_id": "b1"},
            "agent": {"version": "0.1.0"},
            "seq": {"epoch": self.epoch, "n": n},
            "pass": {"id": "01939c5e-0000-7000-8000-000000000000", "trigger": "drift", "mode": "enforce", "duration_ms": 3},
            "spec": {"repo": "ssh://git.example.org/eden.git", "branch": "main", "target_commit": NEW, "observed_commit": NEW,
                     "age_s": 41, "sync": "synced", **spec},
            "scope": "full", "counts": counts, "state_digest": digest(items), "items": items,
        }
        event = {"specversion": "1.0", "type": "dev.evenkeel.report.v1", "source": f"urn:uuid:{name}", "id": f"{self.epoch}:{n}",
                 "subject": name, "time": now(), "datacontenttype": "application/json", "data": data}
        request = urllib.request.Request(f"{self.url}/v1/events", json.dumps([event]).encode(),
                                         {"content-type": "application/cloudevents-batch+json"})
        answer = json.load(urllib.request.urlopen(request))
        assert answer["accepted"] == 1, answer

    def filled(self, token):
        """Waits until every simulated node was heard of."""
        patience = time.monotonic() + 900
        while True:
            request = urllib.request.Request(f"{self.url}/api/v1/fleet", headers={"authorization": f"Bearer {token}"})
            nodes = json.load(urllib.request.urlopen(request))["all"]["nodes"]
            if nodes >= self.agents:
                return nodes
            assert time.monotonic() < patience and self.swarm.poll() is None, f"{nodes} nodes were heard of"
            time.sleep(1)

    def end(self):
        for child in (self.swarm, self.hub):
            child.kill()
            child.wait()
        self.folder.cleanup()
