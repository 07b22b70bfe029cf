-- The articles of one author with one tag, newest first, however many others either has.
create index concurrently article_tag_author_id_tag_article_id_idx on article_tag (author_id, tag, article_id);
