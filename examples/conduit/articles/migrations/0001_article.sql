create table article (
  id bigint generated always as identity primary key,
  slug text not null constraint article_slug_key unique,
  author_id bigint not null,
  title text not null,
  description text not null,
  body text not null,
  tag_list text[] not null default '{}',
  favorites_count integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
) with (fillfactor = 90); -- room for favorites_count to change in place

-- Newest first within one author; ids grow with time.
create index article_author_id_id_idx on article (author_id, id);

-- The same tags as in article.tag_list, to find articles by one. The author is kept beside them, so that counts by author
-- and tag need no look at the article, which is gone first when it is deleted.
create table article_tag (
  tag text not null,
  article_id bigint not null references article (id) on delete cascade,
  author_id bigint not null,
  primary key (tag, article_id)
);

create index article_tag_article_id_idx on article_tag (article_id);

create table favorite (
  account_id bigint not null,
  article_id bigint not null references article (id) on delete cascade,
  created_at timestamptz not null default now(),
  primary key (account_id, article_id)
);

create index favorite_article_id_idx on favorite (article_id);
