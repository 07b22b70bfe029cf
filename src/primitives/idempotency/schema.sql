-- Tokens come from a sequence: a record that is made anew after it was deleted must not get a token that an old holder has.
create sequence rung.idempotency_token;

create table rung.idempotency (
  key bytea primary key,
  fingerprint bytea not null,
  token bigint not null default nextval('rung.idempotency_token'),
  -- A new one whenever the key begins anew. Part of the record's key in other databases, where a record of an earlier life is not found.
  life uuid not null default gen_random_uuid(),
  lease_until timestamptz,
  expires_at timestamptz not null,
  steps bytea[] not null default '{}',
  -- Names of the other databases in which there may be steps.
  databases text[] not null default '{}',
  status smallint,
  headers json,
  body bytea
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

create index idempotency_expired on rung.idempotency (expires_at);

create type rung.idempotency_reserved as (
  state text, token bigint, life uuid, steps bytea[], databases text[], wait_ms integer, status smallint, headers json, body bytea
);

create function rung.reserve_idempotency(of_key bytea, of_payload bytea, lease interval, keep interval)
returns rung.idempotency_reserved language plpgsql as $$
declare
  found_row rung.idempotency;
  at timestamptz;
  answer rung.idempotency_reserved;
begin
  loop
    at := clock_timestamp();
    insert into rung.idempotency as r (key, fingerprint, lease_until, expires_at)
    values (of_key, of_payload, at + lease, at + keep)
    on conflict (key) do nothing returning r.token, r.life into answer.token, answer.life;
    if found then
      answer.state := 'held';
      answer.steps := '{}';
      answer.databases := '{}';
      return answer;
    end if;
    select * into found_row from rung.idempotency where key = of_key for update;
    exit when found;
  end loop;
  at := clock_timestamp();
  if found_row.expires_at <= at and (found_row.lease_until is null or found_row.lease_until <= at) then
    update rung.idempotency as r set fingerprint = of_payload, token = default, life = default, lease_until = at + lease,
      expires_at = at + keep, steps = '{}', databases = '{}', status = null, headers = null, body = null
    where key = of_key returning 'held', r.token, r.life, r.steps, r.databases
    into answer.state, answer.token, answer.life, answer.steps, answer.databases;
  elsif found_row.fingerprint <> of_payload then
    answer.state := 'other-payload';
  elsif found_row.status is not null then
    answer.state := 'answered';
    answer.status := found_row.status;
    answer.headers := found_row.headers;
    answer.body := found_row.body;
  elsif found_row.lease_until > at then
    answer.state := 'in-flight';
    answer.wait_ms := ceil(extract(epoch from found_row.lease_until - at) * 1000);
  else
    update rung.idempotency as r set token = default, lease_until = at + lease
    where key = of_key returning 'held', r.token, r.life, r.steps, r.databases
    into answer.state, answer.token, answer.life, answer.steps, answer.databases;
  end if;
  return answer;
end $$;

create function rung.release_idempotency(of_key bytea, held_token bigint) returns void language plpgsql as $$
declare
  released rung.idempotency;
begin
  select * into released from rung.idempotency where key = of_key and token = held_token and status is null for update;
  if not found then return; end if;
  if cardinality(released.steps) = 0 and cardinality(released.databases) = 0 then
    delete from rung.idempotency where key = of_key;
  else
    update rung.idempotency set token = default, lease_until = null where key = of_key;
  end if;
end $$;

-- In a further database. A later holder of the record in the main database has a higher token. This waits for a commit that is under way.
create function rung.reserve_idempotency_under(of_key bytea, main_token bigint, of_payload bytea, lease interval, keep interval)
returns bytea[] language sql as $$
  insert into rung.idempotency as r (key, token, fingerprint, lease_until, expires_at)
  values (of_key, main_token, of_payload, clock_timestamp() + lease, clock_timestamp() + keep)
  on conflict (key) do update set token = excluded.token, lease_until = excluded.lease_until, expires_at = excluded.expires_at
  where r.token <= excluded.token
  returning r.steps
$$;
