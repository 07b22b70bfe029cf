-- Statements that processes of the app have noticed: slow ones, those that gave up waiting for a lock, and those that ran again and again.
create table rung.sighting (
  -- Of its kind, statement and unit of work.
  fingerprint text primary key,
  kind text not null,
  -- Without values.
  statement text not null,
  site text not null,
  route text not null,
  module text,
  count bigint not null,
  total_ms float8,
  worst_ms float8,
  row_count bigint,
  plan text,
  first_at timestamptz not null,
  last_at timestamptz not null
);
