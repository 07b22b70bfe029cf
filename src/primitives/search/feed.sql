-- Search in a database of its own. These tables are in every database; which of them are used depends on what the database is for.
--
-- In a database of the app: the last change of each document that the search database has not confirmed. One row for each document keeps
-- the order of its changes, because writers of a document wait for each other at its row, and it bounds what an outage leaves.
-- seq stays the same while a row waits, and version is new with each change.
create table rung.search_pending (
  module text not null,
  name text not null,
  id text collate "C" not null,
  language text not null,
  document json,
  seq bigint generated always as identity,
  version bigint not null,
  primary key (module, name, id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
create index search_pending_seq on rung.search_pending (seq);
create sequence rung.search_version;

-- store: the content of the search database that belongs to this one. confirmed: how many batches it is known to have stored.
create table rung.search_feed (one boolean primary key default true check (one), store uuid not null, confirmed bigint not null);
insert into rung.search_feed (store, confirmed) values (gen_random_uuid(), 0);

-- The indexes, and in which content each is whole.
create table rung.search_indexed (module text not null, name text not null, store uuid, primary key (module, name));

-- In the search database: which content it has, for each database that feeds it, and how many batches of it.
create table rung.search_fed (feed text primary key, store uuid not null, applied bigint not null);

-- Rides the commit. An index that was filled before search moved away is whole only after a rebuild.
create function rung.search_submit(changes jsonb) returns void language sql as $$
  insert into rung.search_indexed (module, name, store)
  select module, name, case when not exists (select from rung.search_index i where i.module = c.module and i.name = c.name)
    then (select store from rung.search_feed) end
  from (select distinct module, name from jsonb_to_recordset(changes) r (module text, name text)) c order by module, name
  on conflict do nothing;
  insert into rung.search_pending as old (module, name, id, language, document, version)
  select module, name, id, language, document, nextval('rung.search_version')
  from jsonb_to_recordset(changes) c (module text, name text, id text, language text, document json)
  order by module, name, id collate "C"
  on conflict (module, name, id) do update
    set language = excluded.language, document = excluded.document, version = excluded.version;
$$;

-- Removes what was applied, except rows that have changed since they were read. The lock order is that of writers, and nobody is waited for.
create function rung.search_confirm(batch bigint, seqs bigint[], versions bigint[]) returns void language sql as $$
  delete from rung.search_pending using (
    select p.module, p.name, p.id from rung.search_pending p
    join unnest(seqs, versions) given (seq, version) on given.seq = p.seq and given.version = p.version
    order by p.module, p.name, p.id for update of p skip locked
  ) applied
  where search_pending.module = applied.module and search_pending.name = applied.name and search_pending.id = applied.id;
  update rung.search_feed set confirmed = greatest(confirmed, batch);
$$;

create view rung.search_state as
  select (select max(seq) from rung.search_pending) as last, store::text, confirmed,
    array(
      select module || ' ' || name from rung.search_indexed where store is distinct from search_feed.store
      union all
      select module || ' ' || name from rung.search_index i
      where not exists (select from rung.search_indexed known where known.module = i.module and known.name = i.name)
    ) as incomplete
  from rung.search_feed;
