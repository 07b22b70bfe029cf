create table account (
  id bigint generated always as identity primary key,
  username text not null,
  email text not null,
  password_hash text not null,
  bio text,
  image text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint account_username_key unique (username)
);

-- One mailbox, one account, however its owner writes it.
create unique index account_email_key on account (lower(email));
