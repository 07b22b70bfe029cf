-- Rows live for an hour: as long as a process or a shared layer may have been away and still catch up.
create table rung.invalidation (
  id bigint generated always as identity,
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null default now(),
  tags text[] not null
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2);
create index on rung.invalidation (xid);
create index on rung.invalidation using brin (at);
