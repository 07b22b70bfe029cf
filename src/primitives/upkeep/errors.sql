-- Errors of the app, grouped: one row for each group and release. Written a few seconds after they happen.
create table rung.error (
  fingerprint text not null,
  release text not null,
  first_at timestamptz not null,
  last_at timestamptz not null,
  count bigint not null,
  -- Digests of the principals whose requests failed; at most 1,000.
  users int[] not null,
  -- The newest of them.
  sample jsonb not null,
  primary key (fingerprint, release)
);
