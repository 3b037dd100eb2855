-- Of the demonstration's PACS: what is uploaded in the browser goes on to the node.
function OnStoredInstance(instance, tags, metadata, origin)
  if origin['RequestOrigin'] == 'RestApi' then
    SendToModality(instance, 'litegpt')
  end
end
