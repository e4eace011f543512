/**
 * Two ways to stop on a bug. Used by every folder of `src/`; never for events of life such as a lost leader.
 *
 * An invariant that breaks means that this process may no longer be trusted with messages: it throws, the owner
 * stops the node, nothing catches it to go on.
 */

/** Thrown when an invariant does not hold. The message starts with the id of the invariant, for example `R4: …`. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError'
}

export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message)
}

/** Closes a union: a value that reaches this has a kind that the code does not know. */
export function unreachable(value: never): never {
  throw new InvariantError(`unreachable: ${JSON.stringify(value)}`)
}
