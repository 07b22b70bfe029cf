-- Indexes of tables that are not locked: asking for their definitions would wait.
with locked as materialized (
  select l.relation as oid from pg_locks l join pg_database d on d.oid = l.database
    where l.mode = 'AccessExclusiveLock' and d.datname = current_database()
  union select i.indrelid from pg_locks l join pg_index i on i.indexrelid = l.relation
    where l.mode = 'AccessExclusiveLock'
)
select /* rung:doctor */
  i.indexrelid::int8 as oid,
  i.indrelid::int8 as "tableOid",
  c.relname as name,
  quote_ident(n.nspname) || '.' || quote_ident(c.relname) as sql,
  m.amname as method,
  i.indisunique as unique,
  i.indisvalid as valid,
  i.indisreplident as "replicaIdentity",
  i.indisunique and i.indnullsnotdistinct as "nullsEqual",
  exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid) as building,
  array(select pg_get_indexdef(i.indexrelid, k, false) from generate_series(1, i.indnkeyatts) k) as keys,
  array(
    select concat_ws(' ', pg_get_indexdef(i.indexrelid, k, false), i.indclass[k - 1], i.indcollation[k - 1], i.indoption[k - 1])
    from generate_series(1, i.indnkeyatts) k
  ) as signature,
  array(
    select pg_get_indexdef(i.indexrelid, k, false) from generate_series(i.indnkeyatts + 1, i.indnatts) k
  ) as included,
  pg_get_expr(i.indpred, i.indrelid) as predicate,
  pg_get_indexdef(i.indexrelid) as definition,
  k.conname as "constraintName",
  pg_get_constraintdef(k.oid) as "constraintDefinition",
  exists (select from pg_constraint f where f.contype = 'f' and f.conindid = i.indexrelid) as referenced,
  coalesce(s.idx_scan, 0) as scans,
  pg_relation_size(i.indexrelid) as "sizeBytes"
from pg_index i join pg_class c on c.oid = i.indexrelid and c.relkind = 'i' and not c.relispartition
join pg_namespace n on n.oid = c.relnamespace
join pg_am m on m.oid = c.relam
join pg_class t on t.oid = i.indrelid and t.relpersistence <> 't'
left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
left join pg_stat_user_indexes s on s.indexrelid = i.indexrelid
where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and i.indrelid not in (select oid from locked)
order by i.indexrelid
