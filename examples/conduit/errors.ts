import { type ErrorCode, type Problem, RungError } from 'rung'

/** Conduit's own form of an error: messages by the thing or field they are about. */
export interface ConduitErrors {
  errors: Record<string, string[]>
}

/** An error about one thing: `refuse('HTTP_NOT_FOUND', 'article', 'not found')`. */
export function refuse(code: ErrorCode, about: string, message: string): RungError {
  return new RungError(code, `${about} ${message}`, { facts: { about: { [about]: [message] } } })
}

/** problem+json, as Rung writes it, in the form that Conduit's clients know. */
export function conduitErrors(problem: Problem & { about?: ConduitErrors['errors'] }): ConduitErrors {
  if (problem.about) return { errors: problem.about }
  const [field] = problem.errors ?? []
  if (field) return { errors: { [nameOf(field.path, field.in)]: [inWords(field.message)] } }
  return { errors: { [subjectOf(problem)]: [problem.detail] } }
}

function nameOf(path: string, part: string): string {
  const names = path.split('/').filter((name) => name !== '' && Number.isNaN(Number(name)))
  return names.at(-1) ?? part
}

/** A blank and a missing field are one thing to the one who fills in a form. */
function inWords(message: string): string {
  if (/required property|pattern|fewer than 1 characters|must not be (null|empty)/.test(message))
    return "can't be blank"
  const length = /NOT have (fewer|more) than (\d+) characters/.exec(message)
  if (length)
    return length[1] === 'fewer'
      ? `is too short (minimum is ${length[2]} characters)`
      : `is too long (maximum is ${length[2]} characters)`
  return message.startsWith('must match format') ? 'is invalid' : message
}

function subjectOf({ status, code }: Problem): string {
  if (code.startsWith('IDEMPOTENCY_')) return 'Idempotency-Key'
  if (code === 'DATA_VALUE' || status === 400 || status === 413 || status === 415) return 'body'
  return status === 404 ? 'resource' : 'request'
}
