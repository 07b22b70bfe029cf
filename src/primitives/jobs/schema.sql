-- Jobs and deliveries of events are in one table: a delivery is a job whose queue is its consumer group.
--
-- Claims are functions, so that they use their indexes whatever the statistics say at the moment: a queue that was empty when it was
-- analysed may hold a million rows a minute later. One function finds what may be claimed and another holds it, in one statement, so
-- that rows pass through one result only.

-- Fails the transaction it rides unless the condition holds.
create function rung.expect(ok boolean) returns void language plpgsql as $$
begin
  if ok is not true then
    raise exception 'a row that this commit depends on has changed' using errcode = 'RG001';
  end if;
end $$;

create table rung.job (
  id bigint generated always as identity primary key,
  queue text not null,
  name text not null,
  payload json not null,
  key text,
  priority smallint not null,
  run_at timestamptz not null,
  token integer not null default 0,
  lease_until timestamptz,
  failures integer not null default 0,
  attempts_max integer not null,
  dead_at timestamptz,
  cancelled boolean not null default false,
  keep boolean not null,
  unique_key text,
  worker text,
  error text,
  progress json,
  context json,
  created_at timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = off); -- truncation locks everybody out, for pages that are needed again at once

create index job_waiting on rung.job (queue, priority, run_at, id)
  where lease_until is null and dead_at is null and key is null;
create index job_keyed on rung.job (queue, key, id) where key is not null and dead_at is null;
create index job_running on rung.job (queue) where lease_until is not null;
create unique index job_unique on rung.job (queue, unique_key) where unique_key is not null and dead_at is null;

create table rung.job_ended (
  id bigint not null,
  queue text not null,
  name text not null,
  payload json not null,
  key text,
  cancelled boolean not null,
  failures integer not null,
  attempts_max integer not null,
  progress json,
  worker text,
  created_at timestamptz not null,
  ended_at timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

create index job_ended_id on rung.job_ended (id);
create index job_ended_at on rung.job_ended (ended_at);

create table rung.job_turn (queue text primary key, last_key text not null);

create type rung.claimed as (
  id bigint, token integer, queue text, name text, payload json, key text, failures integer, attempts_max integer,
  context json, waited_ms double precision, place text, pushed_at text
);

-- Queues without rules between their items: each caller takes what nobody else has locked.
create function rung.free_jobs(queues text[], counts integer[]) returns bigint[]
language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  ids bigint[] := '{}';
  found_ids bigint[];
  wanted integer;
begin
  for i in 1 .. cardinality(queues) loop
    wanted := counts[i];
    for class in 0 .. 2 loop
      exit when wanted <= 0;
      select array_agg(found.id) into found_ids from (
        select id from rung.job
        where queue = queues[i] and priority = class and run_at <= now()
          and lease_until is null and dead_at is null and key is null
        order by run_at, id limit wanted for update skip locked
      ) found;
      if found_ids is not null then
        ids := ids || found_ids;
        wanted := wanted - cardinality(found_ids);
      end if;
    end loop;
  end loop;
  return ids;
end $$;

-- A queue whose items depend on each other: one claim at a time, which then sees all items that run. Keys are visited in turn from where
-- the last claim stopped, with one index look-up each, so that a key with a long or stuck line holds up no other key.
create function rung.governed_jobs(of_queue text, wanted integer, in_order boolean, per_key integer, fleet integer)
returns bigint[] language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  ids bigint[] := '{}';
  found_ids bigint[];
  head record;
  start_key text;
  at_key text;
  wrapped boolean := false;
  busy integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('rung.job ' || of_queue, 0));
  if fleet is not null then
    select count(*) into busy from rung.job where queue = of_queue and lease_until is not null;
    wanted := least(wanted, fleet - busy);
  end if;
  if wanted <= 0 then return ids; end if;
  -- Items without a key have no order; half of the claim is theirs while there are others.
  for class in 0 .. 2 loop
    select array_agg(found.id) into found_ids from (
      select id from rung.job
      where queue = of_queue and priority = class and run_at <= now()
        and lease_until is null and dead_at is null and key is null
      order by run_at, id limit greatest(1, wanted / 2) - cardinality(ids) for update skip locked
    ) found;
    ids := ids || coalesce(found_ids, '{}');
    exit when cardinality(ids) >= greatest(1, wanted / 2);
  end loop;
  select coalesce((select last_key from rung.job_turn where queue = of_queue), '') into start_key;
  at_key := start_key;
  while cardinality(ids) < wanted loop
    select j.key, j.id, j.lease_until, j.run_at into head from rung.job j
    where j.queue = of_queue and j.key > at_key and j.dead_at is null order by j.key, j.id limit 1;
    if not found then
      exit when wrapped or start_key = '';
      wrapped := true;
      at_key := '';
      continue;
    end if;
    exit when wrapped and head.key > start_key;
    at_key := head.key;
    if in_order then
      if head.lease_until is null and head.run_at <= now() then ids := ids || head.id; end if;
    else
      select count(*) into busy from rung.job
      where queue = of_queue and key = at_key and dead_at is null and lease_until is not null;
      if busy < coalesce(per_key, 2147483647) then
        select array_agg(found.id) into found_ids from (
          select id from rung.job
          where queue = of_queue and key = at_key and dead_at is null and lease_until is null and run_at <= now()
          order by priority, id limit least(coalesce(per_key, 2147483647) - busy, wanted - cardinality(ids))
        ) found;
        ids := ids || coalesce(found_ids, '{}');
      end if;
    end if;
  end loop;
  if cardinality(ids) > 0 then
    insert into rung.job_turn (queue, last_key) values (of_queue, at_key)
      on conflict (queue) do update set last_key = excluded.last_key where job_turn.last_key <> excluded.last_key;
  end if;
  return ids;
end $$;

-- Marks rows as held. Their position is the current end of the log: the commits of all visible rows lie before it.
create function rung.hold(ids bigint[], by_worker text, lease interval) returns setof rung.claimed
language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  log_end text;
begin
  if cardinality(ids) = 0 then return; end if;
  log_end := left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/' || pg_current_wal_insert_lsn();
  return query
    update rung.job set token = token + 1, lease_until = clock_timestamp() + lease, worker = by_worker
    where id = any(ids) and lease_until is null and dead_at is null
    returning id, token, queue, name, payload, key, failures, attempts_max, context,
      (extract(epoch from clock_timestamp() - greatest(run_at, created_at)) * 1000)::float8, log_end, created_at::text;
end $$;

-- Ends claims that are still held, and moves rows that are to be kept to job_ended. Of the others only the id is passed on.
create function rung.end_claims(ids bigint[], tokens integer[], by_cancel boolean, progresses text[])
returns setof bigint language plpgsql set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off
set enable_mergejoin = off as $$
begin
  return query
    with asked as materialized (select * from unnest(ids, tokens, progresses) a (id, token, progress)),
    gone as (
      delete from rung.job j using asked
      where j.id = asked.id and j.token = asked.token and j.lease_until is not null
      returning j.id, case when j.keep then j end as kept, asked.progress as last_progress
    ),
    kept as (
      insert into rung.job_ended (id, queue, name, payload, key, cancelled, failures, attempts_max, progress, worker, created_at)
      select id, (kept).queue, (kept).name, (kept).payload, (kept).key, by_cancel, (kept).failures, (kept).attempts_max,
        coalesce(last_progress::json, (kept).progress), (kept).worker, (kept).created_at
      from gone where (kept).keep
    )
    select id from gone;
end $$;

-- An entry whose times have changed begins anew, instead of making up for runs that the new times would have had.
create table rung.cron (name text primary key, last_at timestamptz not null, times text);

-- Items of queues in other databases, whose handlers write here. A database that is restored uses its numbers again, for other items:
-- so an item is also known by when it was pushed.
create table rung.foreign_claim (
  source text not null,
  item bigint not null,
  pushed_at timestamptz not null,
  token integer not null,
  done boolean not null default false,
  at timestamptz not null default now(),
  primary key (source, item, pushed_at)
);
create index foreign_claim_at on rung.foreign_claim using brin (at);
