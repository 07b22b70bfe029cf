-- Each upload has its own files, named by its number; its state says which of them are to be there:
--   receiving   the original, perhaps in part        (a process that is killed now leaves this row to the sweep)
--   processing  the original
--   ready       the sizes
--   failed      none
--   removed     none, then the row goes too
create table upload (
  id bigint generated always as identity primary key,
  account_id bigint not null,
  state text not null default 'receiving' check (state in ('receiving', 'processing', 'ready', 'failed', 'removed')),
  -- Of the original, once it is complete.
  sha256 text,
  -- For its owner, in words.
  error text,
  created_at timestamptz not null default now()
);

create index upload_account_id_id_idx on upload (account_id, id);
create index upload_unfinished_idx on upload (created_at) where state in ('receiving', 'processing');
