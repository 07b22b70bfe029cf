-- Exact counts that stay cheap on a million articles. Triggers keep them, so they are right whoever writes.
-- A total that many writers change at once is spread over slots and summed when read: each connection has its own slot,
-- so that two writers rarely wait for the same row.

create table article_count (
  slot integer primary key,
  n bigint not null
);

create table tag_count (
  tag text not null,
  slot integer not null,
  n bigint not null,
  primary key (tag, slot)
);

create table author_count (
  author_id bigint primary key,
  n bigint not null
);

create table author_tag_count (
  author_id bigint not null,
  tag text not null,
  n bigint not null,
  primary key (author_id, tag)
);

create table favorite_count (
  account_id bigint primary key,
  n bigint not null
);

create function slot() returns integer language sql stable as $$ select pg_backend_pid() % 8 $$;

-- Rows are touched in the order of their keys: two statements that touch the same ones never wait for each other in a circle.

create function count_articles() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    insert into articles.article_count (slot, n) select articles.slot(), count(*) from changed having count(*) > 0
      on conflict (slot) do update set n = article_count.n + excluded.n;
    insert into articles.author_count (author_id, n) select author_id, count(*) from changed group by author_id order by author_id
      on conflict (author_id) do update set n = author_count.n + excluded.n;
  else
    insert into articles.article_count (slot, n) select articles.slot(), -count(*) from changed having count(*) > 0
      on conflict (slot) do update set n = article_count.n + excluded.n;
    insert into articles.author_count (author_id, n) select author_id, -count(*) from changed group by author_id order by author_id
      on conflict (author_id) do update set n = author_count.n + excluded.n;
  end if;
  return null;
end $$;

create trigger count_new_articles after insert on article
  referencing new table as changed for each statement execute function count_articles();
create trigger count_old_articles after delete on article
  referencing old table as changed for each statement execute function count_articles();

create function count_tags() returns trigger language plpgsql as $$
declare
  sign integer := case tg_op when 'INSERT' then 1 else -1 end;
begin
  insert into articles.tag_count (tag, slot, n) select tag, articles.slot(), sign * count(*) from changed group by tag order by tag
    on conflict (tag, slot) do update set n = tag_count.n + excluded.n;
  insert into articles.author_tag_count (author_id, tag, n)
    select author_id, tag, sign * count(*) from changed group by author_id, tag order by author_id, tag
    on conflict (author_id, tag) do update set n = author_tag_count.n + excluded.n;
  return null;
end $$;

create function count_favorites() returns trigger language plpgsql as $$
declare
  sign integer := case tg_op when 'INSERT' then 1 else -1 end;
begin
  insert into articles.favorite_count (account_id, n) select account_id, sign * count(*) from changed group by account_id order by account_id
    on conflict (account_id) do update set n = favorite_count.n + excluded.n;
  update articles.article set favorites_count = favorites_count + sign * delta.n
    from (select article_id, count(*) as n from changed group by article_id order by article_id) delta
    where article.id = delta.article_id;
  return null;
end $$;

create trigger count_new_favorites after insert on favorite
  referencing new table as changed for each statement execute function count_favorites();
create trigger count_old_favorites after delete on favorite
  referencing old table as changed for each statement execute function count_favorites();

create trigger count_new_tags after insert on article_tag
  referencing new table as changed for each statement execute function count_tags();
create trigger count_old_tags after delete on article_tag
  referencing old table as changed for each statement execute function count_tags();
