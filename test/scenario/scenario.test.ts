/**
 * Runs every case of `cases/` and compares what the group did with what the file says; `README.md` is the guide.
 *
 * `SCENARIO_RECORD=1` (npm run scenario:record) writes the transcripts anew instead, to be reviewed as a diff. A case
 * whose expectations or invariants do not hold is never written.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { linesMax, parseScript, renderScript } from './script.ts'
import { Session } from './session.ts'

const folder = new URL('./cases/', import.meta.url).pathname
const isRecording = process.env['SCENARIO_RECORD'] === '1'
const names = readdirSync(folder).filter((name) => name.endsWith('.txt'))

/** The text of the case as the core makes it today. Throws with the line that failed and what happened before it. */
function play(text: string): string {
  const session = new Session()
  const recent: string[] = []
  return renderScript(parseScript(text), ({ text, words, line }) => {
    recent.push(text)
    try {
      const lines = session.run(words)
      recent.push(...lines.map((one) => `  ${one}`))
      return lines
    } catch (error) {
      const story = recent.slice(-25).join('\n')
      throw new Error(`line ${line}: ${text}: ${(error as Error).message}\n\n${story}`, { cause: error })
    }
  })
}

describe('R1 R2 R3 R4 R5 R6: scenarios of the core', () => {
  for (const name of names) {
    const path = `${folder}${name}`
    const text = readFileSync(path, 'utf8')
    test(`${name.replace('.txt', '')}: ${text.split('\n')[0]?.replace('# ', '')}`, () => {
      const played = play(text)
      expect(played.split('\n').length, `${name}: too long to be read`).toBeLessThanOrEqual(linesMax)
      if (isRecording) {
        if (played !== text) writeFileSync(path, played)
        return
      }
      expect(played, `${name}: if this is meant: npm run scenario:record, and review the diff`).toBe(text)
    })
  }
})

describe('the runner', () => {
  const head = '# A title\n# And why.\nnodes n1 n2 n3\n'

  test('fails where an expectation does not hold, and names the line', () => {
    expect(() => play(`${head}campaign n1\nexpect n1 leader\n`)).toThrow('line 5: expect n1 leader: expected n1 leader')
  })

  test('fails for a case that expects nothing, has no title or no reason, or names a message that is not there', () => {
    expect(() => play(`${head}campaign n1\n`)).toThrow('at least one expect')
    expect(() => play('nodes n1\nexpect n1 leader\n')).toThrow('title')
    expect(() => play('# A title\nnodes n1\nexpect n1 leader\n')).toThrow('why')
    expect(() => play(`${head}deliver n1->n2 append\nexpect n1 follower\n`)).toThrow('no such message')
  })

  test('writes the transcript anew and keeps prose and commands', () => {
    const played = play(`${head}\ncampaign n1\n  rubbish\n\n# Prose.\nexpect n1 pre_candidate\n`)
    expect(played).toContain('campaign n1\n  n1 follower -> pre_candidate')
    expect(played).not.toContain('rubbish')
    expect(play(played)).toBe(played)
  })

  test('R1: the judge sees a second leader of one term, also in a case without an expectation about it', () => {
    const granted = 'term=1 refusal=null'
    const stand = (id: string) =>
      `campaign ${id}\ninject n3->${id} pre_vote_response ${granted}\ninject n3->${id} vote_response ${granted}\n`
    expect(() => play(`${head}${stand('n1')}${stand('n2')}expect n2 leader\n`)).toThrow('R1: n1 and n2 lead term 1')
  })
})
