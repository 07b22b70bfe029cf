-- A table that is locked is returned with its name alone: asking for its size would wait.
with locked as materialized (
  select l.relation as oid from pg_locks l join pg_database d on d.oid = l.database
    where l.mode = 'AccessExclusiveLock' and d.datname = current_database()
  union select i.indrelid from pg_locks l join pg_index i on i.indexrelid = l.relation
    where l.mode = 'AccessExclusiveLock'
)
select /* rung:doctor */
  c.oid::int8 as oid,
  n.nspname as schema,
  c.relname as name,
  quote_ident(n.nspname) || '.' || quote_ident(c.relname) as sql,
  c.oid in (select oid from locked) as locked,
  quote_ident(pg_get_userbyid(c.relowner)) as owner,
  c.relkind = 'p' as partitioned,
  c.relispartition as partition,
  case when c.reltuples >= 0 then c.reltuples else coalesce(s.n_live_tup, 0) end::float8 as rows,
  case when c.oid not in (select oid from locked) then pg_table_size(c.oid) end as "sizeBytes",
  case when c.oid not in (select oid from locked) then pg_indexes_size(c.oid) end as "indexBytes",
  coalesce(s.n_live_tup, 0) as "liveRows",
  coalesce(s.n_dead_tup, 0) as "deadRows",
  coalesce(s.n_mod_since_analyze, 0) as "changedRows",
  coalesce(s.n_tup_del, 0) as deleted,
  coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0) as writes,
  coalesce(s.seq_scan, 0) + coalesce(s.idx_scan, 0) as scans,
  extract(epoch from now() - greatest(s.last_vacuum, s.last_autovacuum))::float8 as "vacuumedSeconds",
  extract(epoch from now() - greatest(s.last_analyze, s.last_autoanalyze))::float8 as "analyzedSeconds",
  not has_table_privilege(c.oid, 'select')
    or exists (select from pg_stats p where p.schemaname = n.nspname and p.tablename = c.relname) as "hasStatistics",
  coalesce(o.value ->> 'autovacuum_enabled', 'true')::bool as autovacuum,
  coalesce(o.value ->> 'autovacuum_vacuum_threshold', current_setting('autovacuum_vacuum_threshold'))::float8
    + coalesce(o.value ->> 'autovacuum_vacuum_scale_factor', current_setting('autovacuum_vacuum_scale_factor'))::float8
    * greatest(c.reltuples, 0) as "vacuumTrigger",
  coalesce(o.value ->> 'autovacuum_analyze_threshold', current_setting('autovacuum_analyze_threshold'))::float8
    + coalesce(o.value ->> 'autovacuum_analyze_scale_factor', current_setting('autovacuum_analyze_scale_factor'))::float8
    * greatest(c.reltuples, 0) as "analyzeTrigger",
  case when c.relfrozenxid <> '0' then age(c.relfrozenxid) else 0 end as "transactionAge",
  coalesce((
    select json_agg(json_build_object('name', a.attname, 'sql', quote_ident(a.attname), 'distinct',
        case when p.n_distinct < 0 then -p.n_distinct * greatest(c.reltuples, 0) else coalesce(p.n_distinct, 0) end)
      order by a.attnum)
    from pg_attribute a left join pg_stats p
      on p.schemaname = n.nspname and p.tablename = c.relname and p.attname = a.attname and not p.inherited
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  ), '[]') as columns
from pg_class c join pg_namespace n on n.oid = c.relnamespace
left join pg_stat_user_tables s on s.relid = c.oid
left join lateral (
  select json_object_agg(option_name, option_value) as value from pg_options_to_table(c.reloptions)
) o on true
where c.relkind in ('r', 'm', 'p') and c.relpersistence <> 't'
  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and not exists (
    select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype = 'e'
  )
