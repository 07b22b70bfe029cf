import { Type } from 'typebox'
import type { IdentityCalls } from '../identity/contract.ts'
import { profilesSeen } from '../identity/seen.ts'
import { Filled, Profile } from '../schemas.ts'
import type { CommentRow } from './comments.ts'

export const NewComment = Type.Object({ body: Filled(10_000) })
export const Comment = Type.Object({
  id: Type.Integer(),
  createdAt: Type.String({ format: 'date-time' }),
  updatedAt: Type.String({ format: 'date-time' }),
  body: Type.String(),
  author: Profile,
})

/** Comments with their authors, who come by one call. */
export async function present(who: IdentityCalls, rows: readonly CommentRow[], viewer: number | null) {
  const authors = await profilesSeen(who, { ids: rows.map((row) => row.author_id), viewer })
  return rows.map((row) => ({
    id: row.id,
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
    body: row.body,
    author: authors.get(row.author_id)!,
  }))
}
