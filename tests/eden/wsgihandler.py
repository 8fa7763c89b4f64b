"""What stands for Eden: one connection to the database for each worker, and files in the folders that Eden shares."""

import os

import psycopg2

FOLDER = "/home/prod/applications/eden"
POOL = []


def database():
    """The worker's connection, which sleeps between requests as pyDAL's pool lets it. libpq reads PGSERVICE."""
    if not POOL:
        POOL.append(psycopg2.connect(host="10.20.0.10", dbname="sahana", user="sahana"))
    return POOL[0]


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/eden/upload/"):
        name, sent = os.path.basename(path), environ["wsgi.input"].read()
        for folder in ("uploads", "static/img/markers"):
            with open(os.path.join(FOLDER, folder, name), "wb") as out:
                out.write(sent)
        body = b"kept\n"
    else:
        with database() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT current_database()")
            body = ("Eden on %s\n" % cursor.fetchone()[0]).encode()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]
