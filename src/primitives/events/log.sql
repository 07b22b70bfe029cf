-- Events that go over a broker. The table is the outbox: what was published is here, whatever the broker loses.
--
-- A row becomes visible when its transaction commits, which may be later than rows with a higher id. So its place in the order, n, is
-- given to it afterwards, by one caller at a time: nothing ever appears in front of a number that somebody has seen.
create table rung.event (
  id bigint generated always as identity primary key,
  n bigint,
  name text not null,
  payload json not null,
  key text,
  context json,
  at timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
create index event_new on rung.event (id) where n is null;
create unique index event_n on rung.event (n) where n is not null;

-- n: the last number. sent: the last one that the broker has stored. history: whose numbers these are.
create table rung.event_log (one boolean primary key default true check (one), n bigint not null, sent bigint not null, history text not null);
insert into rung.event_log (n, sent, history) values (0, 0, '');

-- How far each subscription has come in the log of each database. A mark is moved by the commit that adds the deliveries.
create table rung.event_mark (
  source text not null,
  event text not null,
  group_name text not null,
  n bigint not null,
  primary key (source, event, group_name)
) with (fillfactor = 50);

-- Changes with each start of the server and each promotion: after a restore, of whatever kind, or a failover commits may be missing, and
-- their numbers with them.
create function rung.event_history() returns text language sql as $$
  select left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '/' || extract(epoch from pg_postmaster_start_time())
$$;

-- Gives the next numbers to committed rows without one, and returns to how many. After a change of the history they go on at the time in
-- microseconds, so that no number ever means two events.
create function rung.number_events(most integer) returns integer
language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  log rung.event_log;
  now_history text;
  numbered integer;
begin
  if not exists (select from rung.event where n is null) then return 0; end if;
  select * into log from rung.event_log for update; -- the next statement sees what was committed by now
  now_history := rung.event_history();
  if log.history <> now_history then
    log.n := greatest(log.n, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
  end if;
  with fresh as (
    select id, row_number() over (order by id) as place from (
      select id from rung.event where n is null order by id limit most
    ) first
  )
  update rung.event set n = log.n + fresh.place from fresh where event.id = fresh.id;
  get diagnostics numbered = row_count;
  update rung.event_log set n = log.n + numbered, history = now_history;
  return numbered;
end $$;

-- Begins the marks of subscriptions that have none: behind everything that was committed before, or in front of the oldest event that is kept.
create function rung.begin_marks(of_source text, events text[], groups text[], from_start boolean[]) returns void
language plpgsql as $$
begin
  if not exists (
    select from unnest(events, groups) wanted (event, group_name)
    where not exists (select from rung.event_mark mark
      where mark.source = of_source and mark.event = wanted.event and mark.group_name = wanted.group_name)
  ) then
    return;
  end if;
  perform from rung.event_log for update; -- nobody else numbers until these marks are committed
  while rung.number_events(10000) > 0 loop end loop;
  insert into rung.event_mark (source, event, group_name, n)
  select of_source, event, group_name,
    case when at_start then coalesce((select min(n) - 1 from rung.event where n is not null), log.n) else log.n end
  from unnest(events, groups, from_start) wanted (event, group_name, at_start) cross join rung.event_log log
  order by event, group_name
  on conflict do nothing;
end $$;

-- Adds the deliveries of events that follow `after` without a gap, for all subscriptions that have everything up to there, and moves
-- their marks. What a mark has passed already is passed over. `of_history`: nothing is taken unless this database still has that history.
create function rung.take_events(of_source text, of_history text, after bigint, numbers bigint[], names text[], payloads text[],
  keys text[], contexts text[]) returns text[]
language plpgsql set enable_seqscan = off set enable_bitmapscan = off as $$
declare
  queues text[];
begin
  if of_history is not null and of_history <> rung.event_history() then return '{}'; end if;
  perform from rung.event_mark where source = of_source order by event, group_name for update;
  with added as (
    insert into rung.job (queue, name, payload, key, priority, run_at, attempts_max, keep, context)
    select subscription.queue, e.name, e.payload::json, e.key, 1, now(), attempts_max, false, e.context::json
    from unnest(numbers, names, payloads, keys, contexts) e (n, name, payload, key, context)
    join rung.event_mark mark on mark.source = of_source and mark.event = e.name and mark.n >= after and mark.n < e.n
    join rung.subscription on subscription.event = mark.event and subscription.group_name = mark.group_name
    order by e.n
    returning queue
  )
  select coalesce(array_agg(distinct queue), '{}') into queues from added;
  update rung.event_mark set n = numbers[cardinality(numbers)]
  where source = of_source and n >= after and n < numbers[cardinality(numbers)];
  return queues;
end $$;

-- Ends a group, and returns how many deliveries waited for it. The marks go first: whoever adds deliveries holds them.
create function rung.drop_group(of_group text) returns integer language plpgsql as $$
declare
  dropped integer;
begin
  delete from rung.event_mark where group_name = of_group;
  delete from rung.subscription where group_name = of_group;
  delete from rung.job where queue = 'event:' || of_group and lease_until is null;
  get diagnostics dropped = row_count;
  return dropped;
end $$;
