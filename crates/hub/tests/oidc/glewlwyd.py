"""A provider of accounts that is not ours: glewlwyd, in a folder of its own.

    glewlwyd.py serve FOLDER PORT REDIRECT    makes it, with a client `hub`, and people `ada` (groups staff, dba) and `bob` (staff);
                                              says "ready" and serves until its standard input is closed
    glewlwyd.py sign-in PORT PERSON URL       goes where the hub sent the browser, signs in, and says where it is sent back to
"""
import http.cookiejar
import json
import pathlib
import re
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

PASSWORD = "correct horse battery"
SECRET = "a-secret-of-the-hub"


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Browser:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}/api"
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(cookies, Stay, urllib.request.ProxyHandler({}))

    def ask(self, method, path, body=None):
        url = path if path.startswith("http") else self.base + path
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
        try:
            return self.opener.open(request, timeout=20)
        except urllib.error.HTTPError as answer:
            return answer

    def must(self, *asked):
        answer = self.ask(*asked)
        if answer.status != 200:
            sys.exit(f"{asked}: {answer.status} {answer.read()[:500]}")
        return answer


def openssl(*args, text=None):
    return subprocess.run(["openssl", *args], input=text, capture_output=True, check=True, text=True).stdout


def start(folder, port):
    database = folder / "g.db"
    made = sqlite3.connect(database)
    made.executescript(pathlib.Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3").read_text())
    made.close()
    paths = {"user": "user", "client": "client", "user_auth_scheme": "scheme", "plugin": "plugin"}
    own = {"port": port, "external_url": f'"http://127.0.0.1:{port}"', "api_prefix": '"api"', "log_mode": '"console"',
           "log_level": '"WARNING"', "cookie_secure": "0", "hash_algorithm": '"SHA512"', "login_url": '"login.html"',
           "admin_scope": '"g_admin"', "profile_scope": '"g_profile"', "use_secure_connection": "false", "allow_multiple_user_per_session": "true", "login_api_enabled": "true"}
    own |= {f"{kind}_module_path": f'"/usr/lib/glewlwyd/{where}"' for kind, where in paths.items()}
    # It wants these named, and does not look at them.
    own |= {f"secure_connection_{what}_file": '"/dev/null"' for what in ("key", "pem", "ca")}
    lines = [f"{name}={value}" for name, value in own.items()]
    lines.append(f'database = {{ type = "sqlite3"; path = "{database}"; }};')
    (folder / "g.conf").write_text("\n".join(lines) + "\n")
    return subprocess.Popen(["glewlwyd", "-c", str(folder / "g.conf")], stdin=subprocess.DEVNULL, stdout=sys.stderr)


def fill(admin, port, redirect):
    patience = time.monotonic() + 60
    while True:
        try:
            admin.must("POST", "/auth", {"username": "admin", "password": "password"})
            break
        except urllib.error.URLError:
            if time.monotonic() > patience:
                sys.exit("glewlwyd does not answer")
            time.sleep(0.1)
    users = json.load(admin.must("GET", "/mod/user/database"))
    users["parameters"]["data-format"]["groups"] = {"multiple": True, "read": True, "write": True}
    admin.must("PUT", "/mod/user/database", users)
    admin.must("PUT", "/mod/user/database/reset", {})
    scope = {"name": "openid", "display_name": "openid", "password_required": True, "scheme": {}}
    if admin.ask("GET", "/scope/openid").status == 404:
        admin.must("POST", "/scope", scope)
    for name, groups in [("ada", ["staff", "dba"]), ("bob", ["staff"])]:
        admin.must("POST", "/user", {"username": name, "password": PASSWORD, "scope": ["openid"], "groups": groups, "enabled": True})
    key = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    public = openssl("pkey", "-pubout", text=key)
    admin.must("POST", "/mod/plugin", {
        "module": "oidc", "name": "oidc", "display_name": "oidc", "enabled": True, "parameters": {
            "iss": f"http://127.0.0.1:{port}/api/oidc", "jwt-type": "rsa", "jwt-key-size": "256", "key": key, "cert": public,
            "access-token-duration": 3600, "refresh-token-duration": 3600, "code-duration": 60, "refresh-token-rolling": False,
            "allow-non-oidc": False, "auth-type-code-enabled": True, "auth-type-token-enabled": False,
            "auth-type-id-token-enabled": False, "auth-type-none-enabled": False, "auth-type-password-enabled": False,
            "auth-type-client-enabled": False, "auth-type-refresh-enabled": False, "auth-type-device-enabled": False,
            "subject-type": "public", "pkce-allowed": True, "pkce-method-plain-allowed": False, "pkce-required": True,
            "jwks-show": True, "name-claim": "no", "email-claim": "no", "scope-claim": "no",
            "claims": [
                {"name": "groups", "type": "string", "user-property": "groups", "mandatory": True},
                {"name": "preferred_username", "type": "string", "user-property": "username", "mandatory": True},
            ],
        },
    })
    admin.must("POST", "/client", {
        "client_id": "hub", "client_secret": SECRET, "confidential": True, "enabled": True, "scope": [], "redirect_uri": [redirect],
        "authorization_type": ["code"], "token_endpoint_auth_method": ["client_secret_basic"],
    })


def serve(folder, port, redirect):
    server = start(pathlib.Path(folder), port)
    try:
        fill(Browser(port), port, redirect)
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        server.kill()


def sign_in(port, person, url):
    browser = Browser(port)
    browser.must("POST", "/auth", {"username": person, "password": PASSWORD})
    browser.must("PUT", "/auth/grant/hub", {"scope": "openid"})
    answer = browser.ask("GET", url + "&g_continue")
    if answer.status != 302:
        sys.exit(f"{answer.status} {answer.read()[:500]}")
    print(answer.headers["location"])


{"serve": serve, "sign-in": sign_in}[sys.argv[1]](*sys.argv[2:])
