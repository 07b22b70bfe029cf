-- How `rung staging` masks a copy of the database.
comment on column account.username is 'personal: name';
comment on column account.email is 'personal: email';
comment on column account.password_hash is 'personal: secret';
comment on column account.bio is 'personal: text';
comment on column account.image is 'personal: remove';
