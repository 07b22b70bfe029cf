-- Tokens name the generation they were made in; a new password begins the next one.
alter table account add column token_generation integer not null default 0;
