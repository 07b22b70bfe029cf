-- Unlogged: a lease does not outlive a crash of the server, and its renewal costs no write to the log.
create unlogged table rung.lease (
  name text primary key,
  holder text not null,
  held_until timestamptz not null
) with (fillfactor = 50);
