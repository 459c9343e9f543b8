"""Programs written for conductor-python, unchanged but for one line in front: ``import podium.compat``.

    import podium.compat
    from conductor.client.worker.worker_task import worker_task

From that line on the import paths of conductor-python's worker side lead to podium. ``podium.migrate.table`` says where
each name lives; where the two differ in signature, an adapter of this package stands between them. What has no place in
podium raises ImportError with the reason, and with what to use instead.

Importing this package raises ImportError where conductor-python itself is installed. Names are resolved when they
are used, so that worker processes, which import it along with the user's modules, load nothing that they do not need.
"""

from podium.compat.finder import install

install()
