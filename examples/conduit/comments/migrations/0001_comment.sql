-- article_id and author_id belong to other modules: no foreign keys, so that either can move to another database.
create table comment (
  id bigint generated always as identity primary key,
  article_id bigint not null,
  author_id bigint not null,
  body text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create index comment_article_id_id_idx on comment (article_id, id);
