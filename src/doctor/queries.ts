/**
 * What the doctor asks of Postgres' catalogs and counters. It only reads, and takes no lock that anybody waits for. A
 * table that another session has locked exclusively, or is about to, is left out: asking for its size would wait.
 */

/** In every query of the doctor, so that it does not diagnose itself. */
export const marker = '/* rung:doctor */'

const mine = `n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`
const ofExtension = `exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype = 'e')`
const locked = `locked as materialized (
    select l.relation as oid from pg_locks l join pg_database d on d.oid = l.database
      where l.mode = 'AccessExclusiveLock' and d.datname = current_database()
    union select i.indrelid from pg_locks l join pg_index i on i.indexrelid = l.relation
      where l.mode = 'AccessExclusiveLock')`

export const serverQuery = `select ${marker}
  current_setting('server_version') as version, current_setting('server_version_num')::int as "versionNumber",
  current_database() as database, current_user as role, quote_ident(pg_get_userbyid(b.datdba)) as owner,
  pg_database_size(current_database()) as "sizeBytes",
  (select rolsuper from pg_roles where rolname = current_user) as superuser,
  pg_is_in_recovery() as standby, (select count(*) from pg_stat_replication) as replicas,
  to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as now,
  extract(epoch from now() - greatest(d.stats_reset, (select stats_reset from pg_stat_bgwriter)))::float8 as "statsSeconds",
  d.blks_hit as "pagesHit", d.blks_read as "pagesRead",
  age(b.datfrozenxid) as "transactionAge", mxid_age(b.datminmxid) as "multixactAge",
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int as "connectionsMax",
  (select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()) as "connectionsUsed"
  from pg_stat_database d join pg_database b on b.oid = d.datid where d.datname = current_database()`

export const settingsQuery = `select ${marker} name, setting from pg_settings`

/** Sessions of this database. */
export const sessionsQuery = `select ${marker} pid, usename as "user", application_name as application, state,
  query = '<insufficient privilege>' as hidden, left(query, 500) as query,
  coalesce(extract(epoch from clock_timestamp() - xact_start), 0)::float8 as "transactionSeconds",
  coalesce(extract(epoch from clock_timestamp() - state_change), 0)::float8 as "stateSeconds",
  coalesce((select extract(epoch from clock_timestamp() - min(l.waitstart)) from pg_locks l
    where l.pid = a.pid and not l.granted), 0)::float8 as "waitSeconds",
  case when wait_event_type = 'Lock' then pg_blocking_pids(pid) else '{}' end as "blockedBy"
  from pg_stat_activity a
  where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`

export const lockedQuery = `with ${locked} select ${marker} quote_ident(n.nspname) || '.' || quote_ident(c.relname) as sql
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'm', 'p') and ${mine} and c.oid in (select oid from locked)`

const option = (name: string, setting: string) => `coalesce(
    (select option_value from pg_options_to_table(c.reloptions) where option_name = '${name}'), ${setting})`

export const tablesQuery = `with ${locked} select ${marker} c.oid::int8 as oid, n.nspname as schema, c.relname as name,
  quote_ident(n.nspname) || '.' || quote_ident(c.relname) as sql, quote_ident(pg_get_userbyid(c.relowner)) as owner,
  c.relkind = 'p' as partitioned, c.relispartition as partition,
  case when c.reltuples >= 0 then c.reltuples else coalesce(s.n_live_tup, 0) end::float8 as rows,
  pg_relation_size(c.oid) as "heapBytes", pg_table_size(c.oid) as "sizeBytes",
  coalesce(s.n_live_tup, 0) as "liveRows", coalesce(s.n_dead_tup, 0) as "deadRows",
  coalesce(s.n_mod_since_analyze, 0) as "changedRows", coalesce(s.n_tup_del, 0) as deleted,
  coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0) as writes,
  coalesce(s.seq_scan, 0) as "fullScans", coalesce(s.seq_tup_read, 0) as "fullScanRows", coalesce(s.idx_scan, 0) as "indexScans",
  extract(epoch from now() - greatest(s.last_vacuum, s.last_autovacuum))::float8 as "vacuumedSeconds",
  extract(epoch from now() - greatest(s.last_analyze, s.last_autoanalyze))::float8 as "analyzedSeconds",
  not has_table_privilege(c.oid, 'select')
    or exists (select from pg_stats p where p.schemaname = n.nspname and p.tablename = c.relname) as "hasStatistics",
  ${option('autovacuum_enabled', `'true'`)}::bool as autovacuum,
  ${option('fillfactor', `'100'`)}::float8 as fillfactor,
  ${option('autovacuum_vacuum_threshold', `current_setting('autovacuum_vacuum_threshold')`)}::float8
    + ${option('autovacuum_vacuum_scale_factor', `current_setting('autovacuum_vacuum_scale_factor')`)}::float8
    * greatest(c.reltuples, 0) as "vacuumTrigger",
  ${option('autovacuum_analyze_threshold', `current_setting('autovacuum_analyze_threshold')`)}::float8
    + ${option('autovacuum_analyze_scale_factor', `current_setting('autovacuum_analyze_scale_factor')`)}::float8
    * greatest(c.reltuples, 0) as "analyzeTrigger",
  case when c.relfrozenxid <> '0' then age(c.relfrozenxid) else 0 end as "transactionAge",
  (select json_agg(json_build_object('name', a.attname, 'sql', quote_ident(a.attname), 'width', coalesce(p.avg_width, 8),
      'distinct', case when p.n_distinct < 0 then -p.n_distinct * greatest(c.reltuples, 0) else coalesce(p.n_distinct, 0) end)
      order by a.attnum)
    from pg_attribute a left join pg_stats p
      on p.schemaname = n.nspname and p.tablename = c.relname and p.attname = a.attname and not p.inherited
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  left join pg_stat_user_tables s on s.relid = c.oid
  where c.relkind in ('r', 'm', 'p') and c.relpersistence <> 't' and ${mine} and not ${ofExtension}
  and c.oid not in (select oid from locked)`

export const indexesQuery = `with ${locked} select ${marker} i.indexrelid::int8 as oid, i.indrelid::int8 as "tableOid", c.relname as name,
  quote_ident(n.nspname) || '.' || quote_ident(c.relname) as sql, m.amname as method,
  i.indisunique as unique, i.indisvalid as valid, i.indisreplident as "replicaIdentity",
  i.indisunique and i.indnullsnotdistinct as "nullsEqual",
  exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid) as building,
  array(select pg_get_indexdef(i.indexrelid, k, false) from generate_series(1, i.indnkeyatts) k) as keys,
  array(select concat_ws(' ', pg_get_indexdef(i.indexrelid, k, false), i.indclass[k - 1], i.indcollation[k - 1], i.indoption[k - 1])
    from generate_series(1, i.indnkeyatts) k) as signature,
  array(select pg_get_indexdef(i.indexrelid, k, false) from generate_series(i.indnkeyatts + 1, i.indnatts) k) as included,
  pg_get_expr(i.indpred, i.indrelid) as predicate, pg_get_indexdef(i.indexrelid) as definition,
  k.conname as "constraintName", pg_get_constraintdef(k.oid) as "constraintDefinition",
  exists (select from pg_constraint f where f.contype = 'f' and f.conindid = i.indexrelid) as referenced,
  coalesce(s.idx_scan, 0) as scans, pg_relation_size(i.indexrelid) as "sizeBytes"
  from pg_index i join pg_class c on c.oid = i.indexrelid and c.relkind = 'i' and not c.relispartition
  join pg_namespace n on n.oid = c.relnamespace join pg_am m on m.oid = c.relam
  join pg_class t on t.oid = i.indrelid and t.relpersistence <> 't'
  left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
  left join pg_stat_user_indexes s on s.indexrelid = i.indexrelid
  where ${mine} and i.indrelid not in (select oid from locked) order by i.indexrelid`

/** Not those that a partition has from its parent. */
export const foreignKeysQuery = `select ${marker} conname as name, conrelid::int8 as "tableOid", confrelid::int8 as "referencedOid",
  array(select a.attname::text from unnest(conkey) with ordinality k (attnum, at)
    join pg_attribute a on a.attrelid = conrelid and a.attnum = k.attnum order by k.at) as columns
  from pg_constraint where contype = 'f' and conparentid = 0 order by conrelid, conname`

export const extensionQuery = `select ${marker} quote_ident(n.nspname) as schema from pg_extension e
  join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'`

/**
 * Statements of this database that touch rows, those with the most time first; users are added up. A text that is too
 * long to be worth parsing counts, but is not shown.
 */
export function statementsQuery(schema: string): string {
  return `select ${marker} *, sum("totalMs") over () as "allMs", count(*) over () as "all", count(*) filter (where hidden) over () as "allHidden"
  from (
    select queryid::text as id, min(query) as text, bool_or(query = '<insufficient privilege>') as hidden,
      sum(calls)::float8 as calls, sum(total_exec_time) as "totalMs", sum(rows)::float8 as rows
    from ${schema}.pg_stat_statements
    where dbid = (select oid from pg_database where datname = current_database()) and position('${marker}' in query) = 0
      and (query = '<insufficient privilege>'
        or query ~* '^(\\s|/\\*.*?\\*/|--[^\\n]*\\n|\\()*(select|insert|update|delete|merge|with|values|table)\\M')
    group by queryid
  ) s order by hidden, length(text) > 20000, "totalMs" desc limit 200`
}
