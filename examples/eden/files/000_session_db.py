# Sessions live in the database, and not in files that every request of a user locks over NFS.
#
# memcached would be quicker and does not work here: web2py's clients for it, gluon.contrib.memcache and memdb, import
# modules that Python 3 no longer has (cPickle, thread), so they fail to load at the first request. On a Python 2 node the
# line would be
#     settings.base.session_memcache = "127.0.0.1:11211"
# and the tier would say {memcached: "127.0.0.1:11211"} under `check`.
#
# Where models are compiled, compile them again after a change to this file.
settings.base.session_db = True
