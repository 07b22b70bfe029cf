-- Which version of the search index has all articles: see reindex.ts.
create table index_fill (
  version integer primary key,
  filled_at timestamptz
);

-- GET /api/articles/search is the search from now on: whoever has that address gets another one.
update article set slug = 'search-article-' || left(gen_random_uuid()::text, 8) where slug = 'search';
