select /* rung:doctor */
  current_setting('server_version') as version,
  current_setting('server_version_num')::int as "versionNumber",
  current_database() as database,
  current_user as role,
  quote_ident(pg_get_userbyid(b.datdba)) as owner,
  pg_database_size(current_database()) as "sizeBytes",
  (select rolsuper from pg_roles where rolname = current_user) as superuser,
  pg_has_role(current_user, 'pg_monitor', 'usage') as monitors,
  has_database_privilege(current_database(), 'create') as creates,
  (select rolreplication or rolsuper from pg_roles where rolname = current_user) as replicates,
  pg_is_in_recovery() as standby,
  (select count(*) from pg_stat_replication) as replicas,
  to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as now,
  extract(epoch from now() - greatest(d.stats_reset, (select stats_reset from pg_stat_bgwriter)))::float8 as "statsSeconds",
  d.blks_hit as "pagesHit",
  d.blks_read as "pagesRead",
  age(b.datfrozenxid) as "transactionAge",
  mxid_age(b.datminmxid) as "multixactAge",
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int as "connectionsMax",
  (select count(*) from pg_stat_activity
    where backend_type = 'client backend' and pid <> pg_backend_pid()) as "connectionsUsed"
from pg_stat_database d join pg_database b on b.oid = d.datid
where d.datname = current_database()
