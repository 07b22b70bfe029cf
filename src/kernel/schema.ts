import { Ajv, type ValidateFunction } from 'ajv'
import formats from 'ajv-formats'
import type { TSchema } from 'typebox'
import { type ErrorCode, RungError } from './errors.ts'

/** A value as another process gets it: its JSON, and the value parsed from that (dates are text). */
export interface AsJson {
  json: string
  value: unknown
}

let compiler: Ajv | undefined

/**
 * Returns a function that checks values against a schema, which is compiled on first use. It uses the validator of requests, because a
 * second library would take 10 MiB in each process. The function throws `code`.
 */
export function jsonCheck(schema: TSchema, code: ErrorCode, subject: string): (value: unknown) => AsJson {
  let validate: ValidateFunction | undefined
  return (value) => {
    validate ??= compile(schema)
    const json = JSON.stringify(value)
    const copy = json === undefined ? undefined : JSON.parse(json)
    if (validate(copy)) return { json, value: copy }
    const [first] = validate.errors ?? []
    throw new RungError(
      code,
      `${subject} does not match its schema: ${first?.instancePath || '/'} ${first?.message ?? 'is wrong'}.`,
    )
  }
}

function compile(schema: TSchema): ValidateFunction {
  if (!compiler) {
    compiler = new Ajv({ strict: false, allErrors: false })
    formats.default(compiler)
  }
  return compiler.compile(schema)
}
