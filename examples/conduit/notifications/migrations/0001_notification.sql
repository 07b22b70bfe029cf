-- account_id, actor_id, article_id and the comments among subject_id belong to other modules: no foreign keys.
create table notification (
  id bigint generated always as identity primary key,
  account_id bigint not null,
  kind text not null check (kind in ('follow', 'comment', 'favorite')),
  actor_id bigint not null,
  -- What was done it to: the comment, the article; 0 for a follower.
  subject_id bigint not null,
  article_id bigint,
  created_at timestamptz not null default now(),
  read_at timestamptz,
  digested_at timestamptz,
  -- Who favors, takes it back and favors again is told of once.
  constraint notification_once unique (account_id, kind, actor_id, subject_id)
);

create index notification_account_id_id_idx on notification (account_id, id);
create index notification_unread_idx on notification (account_id, id) where read_at is null;
create index notification_article_id_idx on notification (article_id);

create table preference (
  account_id bigint primary key,
  digest text not null check (digest in ('none', 'daily')),
  time_zone text not null,
  digest_hour smallint not null check (digest_hour between 0 and 23),
  -- Null while none is wanted.
  next_digest_at timestamptz
);

create index preference_next_digest_at_idx on preference (next_digest_at) where next_digest_at is not null;

-- One a day, whatever happens.
create table digest (
  account_id bigint not null,
  day date not null,
  begun_at timestamptz,
  sent_at timestamptz,
  primary key (account_id, day)
);
