create table rung.session (
  id text primary key,
  digest bytea not null unique,
  next_digest bytea unique,
  previous_digest bytea unique,
  previous_until timestamptz,
  principal text not null,
  plan text,
  created_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  rotated_at timestamptz not null default now(),
  expires_at timestamptz not null
) with (fillfactor = 80);

create index session_principal on rung.session (principal);
