create table follow (
  follower_id bigint not null references account (id) on delete cascade,
  followee_id bigint not null references account (id) on delete cascade,
  created_at timestamptz not null default now(),
  primary key (follower_id, followee_id)
);

create index follow_followee_id_idx on follow (followee_id);
