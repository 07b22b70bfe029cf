-- All that one account wrote, page by page.
create index concurrently comment_author_id_id_idx on comment (author_id, id);
