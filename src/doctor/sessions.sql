-- Sessions of this database.
select /* rung:doctor */
  pid,
  application_name as application,
  state,
  query = '<insufficient privilege>' as hidden,
  left(query, 500) as query,
  coalesce(extract(epoch from clock_timestamp() - xact_start), 0)::float8 as "transactionSeconds",
  coalesce(extract(epoch from clock_timestamp() - state_change), 0)::float8 as "stateSeconds",
  coalesce((select extract(epoch from clock_timestamp() - min(l.waitstart)) from pg_locks l
    where l.pid = a.pid and not l.granted), 0)::float8 as "waitSeconds",
  case when wait_event_type = 'Lock' then pg_blocking_pids(pid) else '{}' end as "blockedBy"
from pg_stat_activity a
where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
