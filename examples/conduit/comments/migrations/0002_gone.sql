-- Articles that were deleted: a comment that was on its way when they went must not stay behind.
create table gone (
  article_id bigint primary key
);
