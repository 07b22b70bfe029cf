create schema if not exists rung;
create table if not exists rung.migration (
  module text not null,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now(),
  duration_ms double precision not null,
  primary key (module, name)
);
create table if not exists rung.migration_attempt (
  module text,
  name text,
  index_name text,
  primary key (module, name)
);
create table if not exists rung.migration_backfill (
  module text,
  name text,
  table_name text not null,
  last_key text[],
  end_key text[] not null,
  rows_done bigint not null default 0,
  rows_total bigint,
  primary key (module, name)
);
