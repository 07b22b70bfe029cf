#!/bin/bash
# Written by rung export. Without this line the file is yours: it is left as it is.
# Copies the primary if the volume is empty, and follows it from then on. One that was away too long: remove its volume.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA"
  pg_basebackup --host=postgres --username=postgres --pgdata="$PGDATA" --write-recovery-conf --checkpoint=fast
fi
exec postgres -c config_file=/etc/postgresql/postgresql.conf -c hba_file=/etc/postgresql/pg_hba.conf
