-- Unlogged: a lease does not outlive a crash of the server, and its renewal costs no write to the log.
create unlogged table rung.lease (
  name text primary key,
  holder text not null,
  held_until timestamptz not null
) with (fillfactor = 50);

-- What processes report of themselves, for tools that have nothing but the database.
create unlogged table rung.report (
  process text not null,
  kind text not null,
  at timestamptz not null,
  content jsonb not null,
  primary key (process, kind)
) with (fillfactor = 50);
