// A headless Chromium that does what it is told: one JSON command a line on stdin, one JSON answer a line on stdout. What has to
// hold is decided by whoever asks; here is only what a browser can do, and what it noticed.
//
// usage: node driver.mjs FOLDER, with `chrome` and `node_modules` in the folder (tests/parts/install browser)

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const folder = process.argv[2];
const require = createRequire(join(folder, 'package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const browser = await chromium.launch({
  executablePath: join(folder, 'chrome'),
  // It only ever sees our own pages on this machine, and containers forbid what its sandbox needs.
  args: ['--no-sandbox', '--disable-gpu', '--force-color-profile=srgb'],
});
let context, page, noticed;

// A page of its own, with nothing left of the one before.
async function open({ url, width, height, dark, touch, scale }) {
  await context?.close();
  context = await browser.newContext({
    viewport: { width, height },
    colorScheme: dark ? 'dark' : 'light',
    hasTouch: touch,
    isMobile: touch,
    deviceScaleFactor: scale ?? 1,
    locale: 'en-US',
  });
  page = await context.newPage();
  noticed = { errors: [], dialogs: [], requests: [], violations: [] };
  const seen = noticed;
  page.on('console', (message) => { if (message.type() === 'error') seen.errors.push(message.text()); });
  page.on('pageerror', (error) => seen.errors.push(String(error)));
  page.on('dialog', (dialog) => { seen.dialogs.push(dialog.message()); dialog.dismiss(); });
  page.on('request', (request) => seen.requests.push(request.url()));
  await page.exposeBinding('noticeViolation', (_, text) => { seen.violations.push(text); });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      window.noticeViolation(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
    });
  });
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  return null;
}

const commands = {
  open,
  evaluate: ({ script }) => page.evaluate(script),
  press: ({ key }) => page.keyboard.press(key),
  click: ({ selector }) => page.click(selector, { timeout: 10000 }),
  // What a screen reader is told.
  spoken: ({ selector }) => page.locator(selector).ariaSnapshot(),
  // Rules for people with disabilities: what axe finds wrong.
  axe: async () => {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, {
      resultTypes: ['violations'],
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    }));
    return violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map((node) => node.failureSummary + ' ' + node.html.slice(0, 200)) }));
  },
  screenshot: async ({ file }) => { await page.screenshot({ path: file, fullPage: true, animations: 'disabled' }); return null; },
  noticed: () => noticed,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...parameters } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await commands[command](parameters)) ?? null };
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
await browser.close();
