// Browsers start no worker on a page that was opened as a file. Search then runs in a hidden frame instead, so that the
// site can be read and searched from a folder, without a server.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = Object.assign(document.createElement("iframe"), { hidden: true })
      document.documentElement.append(frame)
      const inside = frame.contentWindow
      window.addEventListener("message", ({ source, data }) => {
        if (source === inside) this.dispatchEvent(new MessageEvent("message", { data }))
      })
      this.loaded = new Promise((done) => frame.addEventListener("load", done))
      this.inside = inside
      inside.document.open()
      inside.document.write(
        `<script>postMessage = (data) => parent.postMessage(data, "*")</scr` + `ipt><script src="${url}"></scr` + `ipt>`,
      )
      inside.document.close()
    }

    set onmessage(listener) {
      this.addEventListener("message", listener)
    }

    postMessage(data) {
      this.loaded.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {}
  }
  window.Worker = window.IFrameWorker
}
