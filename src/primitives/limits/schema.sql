-- Counts of what was admitted. The table is unlogged: counts cost no log and no replication, and a crash of the server loses them. The
-- arithmetic of the window is that of `memory.ts`, by the server's clock, so processes need not agree on the time. Keys are locked in
-- their order, so that two statements with several keys never wait for each other in a circle.

create unlogged table rung.limit_use (
  key text primary key,
  slots bigint[] not null default '{}',
  counts integer[] not null default '{}',
  lasts double precision[] not null default '{}',
  ends_at timestamptz not null default now() + interval '1 minute'
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

create function rung.take_limits(keys text[], maxima integer[], windows bigint[], slot_lengths bigint[])
returns table (place integer, admitted boolean, used integer, next_ms double precision, slot bigint) language plpgsql as $$
declare
  known rung.limit_use;
  now_ms double precision;
  at_ms double precision;
  latest integer;
  leaving double precision;
begin
  for place in select ordinality from unnest(keys) with ordinality k (key, ordinality) order by k.key loop
    loop
      select * into known from rung.limit_use u where u.key = keys[place] for update;
      exit when found;
      insert into rung.limit_use as u (key) values (keys[place]) on conflict (key) do nothing;
    end loop;
    now_ms := extract(epoch from clock_timestamp()) * 1000;
    -- The clock of a server may be set back; counts never are.
    at_ms := greatest(now_ms, known.lasts[cardinality(known.lasts)]);
    slot := floor(at_ms / slot_lengths[place]);
    select coalesce(array_agg(s order by s), '{}'), coalesce(array_agg(c order by s), '{}'), coalesce(array_agg(l order by s), '{}'),
      coalesce(sum(c), 0)
    into known.slots, known.counts, known.lasts, used
    from unnest(known.slots, known.counts, known.lasts) live (s, c, l) where l > at_ms - windows[place];
    admitted := used < maxima[place];
    if admitted then
      used := used + 1;
      latest := cardinality(known.slots);
      if latest > 0 and known.slots[latest] = slot then
        known.counts[latest] := known.counts[latest] + 1;
        known.lasts[latest] := at_ms;
      else
        known.slots := known.slots || slot;
        known.counts := known.counts || 1;
        known.lasts := known.lasts || at_ms;
      end if;
      update rung.limit_use u set slots = known.slots, counts = known.counts, lasts = known.lasts,
        ends_at = to_timestamp((at_ms + windows[place]) / 1000.0)
      where u.key = keys[place];
    end if;
    select min(l) into leaving from (
      select l, sum(c) over (order by s) as gone from unnest(known.slots, known.counts, known.lasts) live (s, c, l)
    ) going where gone >= greatest(1, used - maxima[place] + 1);
    next_ms := coalesce(windows[place] - (now_ms - leaving), 0);
    return next;
  end loop;
end $$;

create function rung.give_back_limits(keys text[], of_slots bigint[]) returns void language plpgsql as $$
declare
  place integer;
begin
  for place in select ordinality from unnest(keys) with ordinality k (key, ordinality) order by k.key loop
    update rung.limit_use u
    set counts[array_position(slots, of_slots[place])] = greatest(0, counts[array_position(slots, of_slots[place])] - 1)
    where u.key = keys[place] and array_position(slots, of_slots[place]) is not null;
  end loop;
end $$;
